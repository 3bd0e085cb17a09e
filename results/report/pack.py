"""A report as compact JSON for the page: 5,000 runs have to fit into 5 MB.

Runs are arrays under one list of column names. Whatever many runs share (a name, a part of a
specification, an environment) stands once in `pool`, and runs hold its place there. Curves are
thinned and long texts cut where all of them together would be too much; the page says so.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from results import render
from results.report import commands
from results.report.data import Attempt, Report, Run

BYTES = 4_200_000
"""Of all of it as JSON. Curves are thinned until it fits; the rest of the page has to fit, too."""
TEXT_CHARACTERS = 600_000
"""Of all different evidence texts together."""
LONGEST = 6_000
"""Characters of one error or evidence text; of a longer one the middle is left out."""
COLUMNS = (
    *("run_id", "status", "stage", "label", "variant", "backbone", "dataset", "seed", "score"),
    *("spec", "axes", "selected_from", "facts", "metric_names", "metrics", "cost_names", "costs"),
    *("curve", "attempts"),
)
_OWN = ("attempt", "started_at", "ended_at", "wall_seconds", "resumed_from_epoch", "log_path")
ATTEMPT_COLUMNS = (*_OWN, "how", "error", "evidence", "environment", "decision")


class _Pool:
    """Values by place, each once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def __call__(self, value: Any) -> int:
        key = json.dumps(value, sort_keys=True, default=str)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]


def pack(report: Report) -> dict[str, Any]:
    """The report as plain lists, dicts, texts and numbers; no number is nan or infinite."""
    longest = max((len(points) for run in report.runs for points in run.curve.values()), default=1)
    stride = 1
    while True:
        packed = _pack(report, stride)
        if stride >= longest or len(to_json(packed).encode()) <= BYTES:
            return packed
        stride *= 2


def _pack(report: Report, stride: int) -> dict[str, Any]:
    """Every `stride`-th epoch of the curves, and all of the rest."""
    pool = _Pool()
    left = [TEXT_CHARACTERS]
    runs = [_run(run, pool, stride, left) for run in report.runs]
    packed = {
        "suite": report.suite,
        "question": report.question,
        "description": report.description,
        "text": report.text,
        "overrides": report.overrides,
        "digest": report.digest,
        "plan": report.plan,
        "metric": report.metric,
        "higher": report.higher_is_better,
        "planned": report.planned,
        "counts": dict(sorted(report.counts.items(), key=lambda item: (-item[1], item[0]))),
        "stages": report.stages,
        "board": _board(report),
        "why_no_board": report.why_no_board,
        "last_ended": _time(report.last_ended),
        "bad_files": report.bad_files,
        "provenance": report.provenance,
        "commands": commands.of_suite(report),
        "run_commands": commands.of_run(report),
        "environments": environments(report.runs),
        "stride": stride,
        "texts_left_out": left[0] < 0,
        "columns": COLUMNS,
        "attempt_columns": ATTEMPT_COLUMNS,
        "runs": runs,
        "pool": pool.values,
    }
    return _plain(packed)  # type: ignore[no-any-return]


def to_json(packed: Mapping[str, Any]) -> str:
    """Compact and with a fixed order; may stand in an HTML script element, whatever it holds."""
    text = json.dumps(packed, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate cannot be written as UTF-8.
    return text.encode("utf-8", "backslashreplace").decode()


def environments(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """Where successful runs ran and with which code, the most frequent first, without host names."""
    found: Counter[str] = Counter()
    for run in runs:
        for attempt in run.attempts:
            if attempt.ending["status"] == "succeeded":
                shown = {k: v for k, v in attempt.environment.items() if k != "hostname"}
                found[json.dumps(shown, sort_keys=True, default=str)] += 1
                break
    return [{"runs": count, **json.loads(text)} for text, count in found.most_common()]


def _run(run: Run, pool: _Pool, stride: int, left: list[int]) -> list[Any]:
    cell, best = run.cell, run.facts.get("best_epoch")
    return [
        cell.run_id,
        pool(run.status),
        pool(cell.stage),
        pool(run.label),
        pool(cell.variant),
        pool(cell.backbone),
        pool(cell.dataset),
        cell.seed,
        run.score,
        [[pool(name), pool(value)] for name, value in run.spec.items()],
        pool(dict(cell.axes)),
        cell.selected_from,
        [[pool(name), pool(value)] for name, value in run.facts.items()],
        pool(list(run.metrics)),
        [_rounded(value, 6) for value in run.metrics.values()],
        pool(list(run.costs)),
        [_rounded(value, 6) for value in run.costs.values()],
        [_series(split, points, stride, best, pool) for split, points in run.curve.items()],
        [_attempt(attempt, pool, left) for attempt in run.attempts],
    ]


def _attempt(attempt: Attempt, pool: _Pool, left: list[int]) -> list[Any]:
    """Error and evidence apart: they are what many attempts share, or what is long."""
    ending = dict(attempt.ending)
    error, evidence = (ending.pop(name, None) for name in ("error", "evidence"))
    before = len(pool.values)
    held: int | None = None
    if evidence is not None and left[0] >= 0:
        cut = _cut(evidence)
        held = pool(cut)
        # Only a text that no attempt had before costs room.
        left[0] -= len(cut) if len(pool.values) > before else 0
    own = [_value(ending.pop(name, None)) for name in _OWN]
    return [
        *own,
        pool(ending),
        None if error is None else pool(_cut(error)),
        held,
        pool(dict(attempt.environment)),
        None if attempt.decision is None else pool(attempt.decision),
    ]


def _series(
    split: str, points: Any, stride: int, best: int | None, pool: _Pool
) -> tuple[int, int, list[float | None], list[int | None]]:
    """Split, epochs, losses and accuracies; these in ten-thousandths."""
    last = len(points) - 1
    kept = [
        point
        for at, point in enumerate(points)
        if at % stride == 0 or at == last or point[0] == best
    ]
    top1 = [None if t is None or not math.isfinite(t) else round(t * 10_000) for _, _, t in kept]
    return (
        pool(split),
        pool([epoch for epoch, _, _ in kept]),
        [_rounded(loss, 4) for _, loss, _ in kept],
        top1,
    )


def _board(report: Report) -> dict[str, Any] | None:
    if report.board is None:
        return None
    shown = render.shown(report.board)
    return {
        **shown._asdict(),
        "labels": [row.label for row in report.board.rows],
        "datasets": report.board.datasets,
        "means": [[row.mean, row.interval] for row in report.board.rows],
        "cells": [
            [
                None if (cell := row.cells.get(name)) is None else [cell.mean, cell.std]
                for name in report.board.datasets
            ]
            for row in report.board.rows
        ],
    }


def _cut(text: str) -> str:
    """The text; of a long one the beginning and, as errors stand there, more of the end."""
    if len(text) <= LONGEST:
        return text
    head, tail = LONGEST // 3, LONGEST - LONGEST // 3
    return f"{text[:head]}\n[{len(text) - LONGEST} characters left out]\n{text[-tail:]}"


def _rounded(value: Any, digits: int) -> Any:
    """A float to so many significant digits, whole numbers as they are."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _value(value: Any) -> Any:
    """A number in six digits; a time as whole seconds since 1970."""
    return int(value.timestamp()) if isinstance(value, datetime) else _rounded(value, 6)


def _time(value: datetime | None) -> str | None:
    """To the second, UTC."""
    return None if value is None else value.isoformat(sep=" ", timespec="seconds")


def _plain(value: Any) -> Any:
    """The value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
