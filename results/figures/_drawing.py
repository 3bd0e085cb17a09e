"""What a figure is before it is drawn, and the text, JSON, SVG and PNG that it becomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import formats, render
from results.errors import FigureError
from results.scores import Scores, load
from results.stats import MIN_SEEDS
from results.table import Leaderboard, Row, board

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from results.store import Store

FORMATS = ("svg", "png")
"""What a figure is written as, by the ending of the file's name."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a figure is asked to show."""

    store: Store
    suite: str | None
    metric: str
    against: str = "trainable_params"
    """The cost that `pareto` sets the metric against."""
    datasets: tuple[str, ...] = ()
    """The data sets that are shown; all where none is named."""

    @cached_property
    def scores(self) -> Scores:
        """The scores of the planned cells."""
        return load(self.store, self.suite, self.metric)

    @cached_property
    def board(self) -> Leaderboard:
        """Their leaderboard, best mean first."""
        return board(self.scores)

    def wanted(self) -> tuple[str, ...]:
        """The data sets that are shown; FigureError for one that is not in the suite."""
        known = self.scores.datasets
        unknown = [name for name in self.datasets if name not in known]
        if unknown:
            shown = ", ".join(map(formats.printable, unknown))
            allowed = ", ".join(map(formats.printable, known))
            raise FigureError(f"data set: {shown} given, allowed: {allowed}")
        return tuple(name for name in known if not self.datasets or name in self.datasets)

    def axis(self) -> str:
        """The metric as an axis names it."""
        better = "higher" if self.scores.higher_is_better else "lower"
        return f"{self.metric} ({better} is better)"


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure that is worked out: what is drawn is what `records` say."""

    title: str
    says: str
    """What a reader who cannot see it has to know of it, in sentences."""
    columns: tuple[str, ...]
    records: tuple[tuple[Any, ...], ...]
    """The numbers, unrounded; one record per mark."""
    remarks: tuple[str, ...]
    """What the marks mean, what was left out, and why."""
    size: tuple[float, float]
    """Width and height in inches, without title and caption."""
    paint: Callable[[Figure], None]
    """Adds axes and artists to an empty figure."""
    nothing: str = ""
    """Why there is nothing to draw; empty where there is."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with where it is from."""

    kind: str
    suites: tuple[str, ...]
    metric: str
    provenance: Mapping[str, str]
    drawing: Drawing

    @property
    def source(self) -> str:
        """The line that says where it is from."""
        return render.source(self.suites, self.metric, self.provenance)

    @property
    def caption(self) -> tuple[str, ...]:
        """What stands under it, the source last."""
        return (*map(formats.printable, self.drawing.remarks), self.source)

    @property
    def alt(self) -> str:
        """Its content in words, for readers who cannot see it."""
        return " ".join([formats.printable(self.drawing.says), *self.caption])

    def to_text(self) -> str:
        """The numbers as a table over the caption."""
        drawn = self.drawing
        rows = [[cell(value) for value in record] for record in drawn.records]
        right = [
            any(isinstance(record[at], int | float) for record in drawn.records)
            for at in range(len(drawn.columns))
        ]
        below = "".join(f"{line}\n" for line in self.caption)
        table = formats.aligned(drawn.columns, rows, right)
        return f"{formats.printable(drawn.title)}\n\n{table}\n{below}"

    def to_json(self) -> str:
        """Every number unrounded, as one JSON object."""
        drawn = self.drawing
        plain = {
            "kind": self.kind,
            "suites": self.suites,
            "metric": self.metric,
            "title": drawn.title,
            "says": drawn.says,
            "remarks": drawn.remarks,
            "provenance": dict(self.provenance),
            "records": [dict(zip(drawn.columns, record, strict=True)) for record in drawn.records],
        }
        return json.dumps(plain, indent=1) + "\n"

    def to_svg(self) -> bytes:
        """An SVG whose text is text, with title and description; equal input gives equal bytes."""
        from results.figures import _canvas

        return _canvas.svg(self)

    def to_png(self) -> bytes:
        """A PNG with the same in its metadata; equal input gives equal bytes."""
        from results.figures import _canvas

        return _canvas.png(self)

    def save(self, path: Path) -> None:
        """Write it as the ending of `path` says; FigureError where that cannot be."""
        form = form_of(path)
        data = self.to_svg() if form == "svg" else self.to_png()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise FigureError(
                f"--out: {path} given, which cannot be written ({error.strerror or error})"
            ) from error


def form_of(path: Path) -> str:
    """The format that the ending of a file's name asks for."""
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        allowed = " or ".join(f".{name}" for name in FORMATS)
        raise FigureError(f"--out: {path} given, allowed: a file that ends in {allowed}")
    return form


def cell(value: Any) -> str:
    """One value of a record as text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else formats.printable(str(value))


def unfinished(rows: Sequence[Row]) -> list[str]:
    """The remark that names the rows without a mean; none where all have one."""
    lacking = [f"{row.label} ({lacks(row)})" for row in rows if row.mean is None]
    return [f"not drawn, incomplete: {', '.join(lacking)}"] if lacking else []


def lacks(row: Row) -> str:
    """Why a row has no mean."""
    if row.runs < row.expected:
        return f"{row.runs} of {row.expected} runs"
    return "not planned on every data set"


def no_row(rows: Sequence[Row]) -> str:
    """Why nothing can be drawn of rows none of which has a mean."""
    listed = ", ".join(f"{row.label} ({lacks(row)})" for row in rows)
    return f"no variant is complete: {listed}; allowed: after `peftgrid run` or `resume`"


def interval_remarks(rows: Sequence[Row]) -> list[str]:
    """What the bars are, and which of the drawn rows have none and why."""
    bare = [row.label for row in rows if row.mean is not None and row.interval is None]
    drawn = [row for row in rows if row.mean is not None]
    said = []
    if len(bare) < len(drawn):
        said.append("bars: 95 % percentile bootstrap of the mean, seeds drawn within each data set")
    if bare:
        which = "" if len(bare) == len(drawn) else f" of {', '.join(bare)}"
        said.append(f"no interval{which}: it needs {MIN_SEEDS} seeds on every data set")
    cheats = [
        f"{row.label}: {note}" for row in drawn for note in row.notes if note.startswith("oracle")
    ]
    return said + cheats
