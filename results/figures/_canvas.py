"""From a worked-out figure to the bytes of a file. Importing this loads matplotlib."""

from __future__ import annotations

import html
import io
import textwrap
from typing import TYPE_CHECKING, Any

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from results.errors import FigureError
from results.figures._style import INK, SMALL, drawable, inches
from results.formats import printable

if TYPE_CHECKING:
    from results.figures._drawing import Picture

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    # A dollar sign in a variant's name is no formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "peftgrid",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlesize": 8.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.unicode_minus": False,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
}
_DPI = 200
_POINTS = 72.0
_LINE = 1.35
"""Height of a line in parts of its size."""
_TITLE = 10.0
"""Size of the title in points; the caption's is `SMALL`."""
_BOLD = 1.15
"""How much wider bold letters are at most."""
_MARGIN = 0.08
"""Inches around everything."""


def drawn(picture: Picture) -> Figure:
    """The matplotlib figure; FigureError where there is nothing to draw."""
    drawing = picture.drawing
    if drawing.nothing:
        raise FigureError(f"{picture.kind}: {drawing.nothing}")
    width, height = drawing.size
    title = _wrapped(printable(drawing.title), width, _TITLE)
    caption = [line for remark in picture.caption for line in _wrapped(remark, width, SMALL)]
    above = _inches(len(title), _TITLE) + _MARGIN
    below = _inches(len(caption), SMALL) + 2 * _MARGIN
    total = above + height + below
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(width, total), facecolor="white")
        edge = _MARGIN / width
        rect = (edge, below / total, 1 - 2 * edge, height / total)
        figure.set_layout_engine(ConstrainedLayoutEngine(rect=rect, wspace=0.05))
        drawing.paint(figure)
        for text, y, size, weight, lines in (
            ("\n".join(title), 1 - _MARGIN / total, _TITLE, "bold", "title"),
            ("\n".join(caption), (below - _MARGIN) / total, SMALL, "normal", "caption"),
        ):
            # The layout is the axes' alone: title and caption have their own room.
            figure.text(
                *(edge, y, text),
                fontsize=size,
                fontweight=weight,
                color=INK,
                va="top",
                linespacing=_LINE / 1.17,
                gid=lines,
            ).set_in_layout(False)
        _freeze(figure)
    return figure


def _freeze(figure: Figure) -> None:
    """Lay the panels out once and for all, rounded: the solver's last digits differ from call to call."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = axes.get_position().bounds
        axes.set_position((round(left, 5), round(bottom, 5), round(width, 5), round(height, 5)))


def svg(picture: Picture) -> bytes:
    """The figure as SVG."""
    out = io.BytesIO()
    title = printable(picture.drawing.title)
    figure = drawn(picture)
    with style.context(["default", _STYLE]):
        FigureCanvasSVG(figure).print_svg(  # type: ignore[no-untyped-call]
            out,
            metadata={
                "Title": title,
                "Description": picture.alt,
                "Source": picture.source,
                "Creator": _creator(picture),
                "Date": None,
            },
        )
    text = out.getvalue().decode()
    described = ' role="img" aria-labelledby="figure-title figure-desc"'
    text = text.replace("<svg ", f"<svg{described} ", 1)
    desc = html.escape(picture.alt, quote=False)
    return text.replace(
        f"<title>{html.escape(title, quote=False)}</title>",
        f'<title id="figure-title">{html.escape(title, quote=False)}</title>\n'
        f' <desc id="figure-desc">{desc}</desc>',
        1,
    ).encode()


def png(picture: Picture) -> bytes:
    """The figure as PNG."""
    out = io.BytesIO()
    figure = drawn(picture)
    with style.context(["default", _STYLE]):
        figure.dpi = _DPI
        FigureCanvasAgg(figure).print_png(  # type: ignore[no-untyped-call]
            out,
            metadata={
                "Title": printable(picture.drawing.title),
                "Description": picture.alt,
                "Source": picture.source,
                "Software": _creator(picture),
            },
        )
    return out.getvalue()


def _creator(picture: Picture) -> str:
    return f"peftgrid {picture.provenance.get('peftgrid', '')}".strip()


def _wrapped(text: str, width: float, size: float) -> list[str]:
    """The lines of a text in bold letters of that size, or narrower ones, that fit into `width` inches."""
    text = drawable(text)
    letters = len(text)
    while letters > 1:
        lines = textwrap.wrap(text, letters)
        widest = max(inches(line, size) for line in lines) / (width - 2 * _MARGIN)
        if widest * (_BOLD if size == _TITLE else 1) <= 1:
            return lines
        letters = min(letters - 1, int(letters / widest) + 1)
    return [text]


def _inches(lines: int, size: float) -> float:
    return lines * size * _LINE / _POINTS
