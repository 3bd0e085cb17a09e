"""How lines, points and names look. Importing this loads matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from matplotlib import font_manager, ft2font
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Affine2DBase, ScaledTranslation, blended_transform_factory

from results.formats import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C7A00")
"""Okabe and Ito's, whose yellow is darkened so that it shows on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
INK, FAINT = "#1a1a1a", "#8a8a8a"
SMALL = 7.0
"""Size of names and captions in points."""
TOGETHER = 8
"""Lines that share one panel at most; more of them get further panels."""
_LONGEST = 52
"""Letters of a name that are shown; of a longer one the middle is left out."""
_SAMPLE = 0.3
"""Inches of a key before its names: mark and, where there are any, sample of the line."""


class Style(NamedTuple):
    """Of one of up to `TOGETHER` lines of a panel."""

    color: str
    marker: str
    linestyle: Any

    @classmethod
    def of(cls, number: int) -> Style:
        """The style of line `number`: each has a marker of its own."""
        at = number % TOGETHER
        return cls(COLOURS[at], MARKERS[at], DASHES[at % len(DASHES)])


def drawable(text: str) -> str:
    """The text with what the font lacks escaped: a box would stand for any of those letters."""
    glyphs = _font().get_char_index
    return "".join(
        c if c == "\n" or glyphs(ord(c)) else c.encode("unicode_escape").decode() for c in text
    )


def shown(names: Sequence[str]) -> list[str]:
    """The names as they are drawn: short enough, and still all different."""
    made: list[str] = []
    for number, name in enumerate(names, start=1):
        text = drawable(printable(name))
        if len(text) > _LONGEST:
            half = (_LONGEST - 3) // 2
            text = f"{text[:half]}...{text[-half:]}"
        made.append(f"{text} (#{number})" if text in made else text)
    return made


def width_of(names: Sequence[str]) -> float:
    """The inches that a key of these names takes."""
    return 0.25 + _SAMPLE + max((inches(name, SMALL) for name in names), default=0)


def inches(text: str, size: float) -> float:
    """How wide a line of text is."""
    font = _font()
    font.set_size(size, 72)
    font.set_text(text, 0.0, flags=ft2font.LoadFlags.NO_HINTING)
    return float(font.get_width_height()[0]) / 64 / 72


def key(axes: Axes, entries: Sequence[tuple[str, str, Style | None]], height: float) -> None:
    """Fill an empty panel of `height` inches with lines of mark, style and name."""
    axes.axis("off")
    figure = axes.get_figure()
    assert figure is not None
    # x in inches from the left of the panel, however wide the layout makes it.
    to_left = figure.dpi_scale_trans + ScaledTranslation(0, 0, cast(Affine2DBase, axes.transAxes))
    place = blended_transform_factory(to_left, axes.transAxes)
    step = min(0.165 / height, 1 / max(len(entries), 1))
    for at, (mark, name, look) in enumerate(entries):
        y = 1 - (at + 0.5) * step
        words: dict[str, Any] = {
            "fontsize": SMALL,
            "va": "center",
            "color": INK,
            "transform": place,
        }
        axes.text(0.0, y, mark, fontweight="bold", **words)
        start = 0.2
        if look:
            end = start + _SAMPLE
            sample = Line2D(
                [start, (start + end) / 2, end], [y] * 3, lw=1.2, ms=4, **look._asdict()
            )
            sample.set_markevery([1])
            sample.set_transform(place)
            axes.add_artist(sample)
            start = end + 0.06
        axes.text(start, y, name, **words)


def marks_at_ends(
    axes: Axes, ends: Sequence[tuple[float, float, str, str]], height: float, *, log: bool = False
) -> None:
    """Short marks right of a panel, level with where their lines end but never over each other.

    `ends` holds x, y, mark and colour of each; the panel is `height` inches high and has its limits.
    """
    low, high = axes.get_ylim()
    scale = np.log if log else np.asarray
    low, high = float(scale(low)), float(scale(high))
    wanted = [(float(scale(y)) - low) / (high - low) for _, y, _, _ in ends]
    for (x, y, mark, colour), place in zip(ends, spread(wanted, 0.125 / height), strict=True):
        axes.annotate(
            mark,
            (x, y),
            (1.04, place),
            xycoords="data",
            textcoords="axes fraction",
            fontsize=SMALL,
            fontweight="bold",
            va="center",
            color=INK,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": colour, "shrinkA": 0, "shrinkB": 0},
            annotation_clip=False,
        )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places near the wanted ones, in their order, at least `gap` apart."""
    order = np.argsort(np.asarray(wanted), kind="stable").tolist()
    # Neighbours that are too close become one block around the mean of what they want.
    blocks: list[list[int]] = []

    def start(block: Sequence[int]) -> float:
        middle = float(np.mean([wanted[at] for at in block]))
        return middle - gap * (len(block) - 1) / 2

    for at in order:
        blocks.append([at])
        while len(blocks) > 1:
            before, last = blocks[-2:]
            if start(before) + gap * len(before) <= start(last) + 1e-12:
                break
            blocks[-2:] = [before + last]
    places = [0.0] * len(wanted)
    for block in blocks:
        for step, at in enumerate(block):
            places[at] = start(block) + gap * step
    return places


def counts_on_log(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis for `values`, its ticks plain numbers: 1, 2 or 5 times a power of ten."""
    axes.set_xscale("log")
    least, most = min(values), max(values)
    margin = (most / least) ** 0.08 if most > least else 1.5
    axes.set_xlim(least / margin, most * margin)
    low, high = axes.get_xlim()
    powers = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 4:
            break
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def short(value: float) -> str:
    """1,500 as 1.5k, 2,000,000 as 2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def _font() -> ft2font.FT2Font:
    return font_manager.get_font(font_manager.findfont("DejaVu Sans"))
