"""What a training step costs: every method beside the floor and beside HF PEFT.

`make bench` measures exactly what can be (FLOPs of matrix products, bytes saved for the backward) for
every method on ViT-Ti/16, and times a few. `make bench-full`, which is this module, does both for
every method on ViT-Ti/16 and ViT-S/16: 36 pairs of steps a method take hours on two cores.

All ratios are to the same ViT that trains its head and takes the gradient back to the first adapted
block (`step_models.floor`), or to HF PEFT: below 1 ours costs less. Times are medians over pairs of
steps that alternate, with a bootstrap interval of 95 %. A/A is the floor against a second one in the
same rounds: where its interval is wide or leaves out 1, the machine was too busy to time that row.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.bench.step_models import Case, Trainee, cases, first_adapted, floor, ours, theirs

MODELS = ("vit_tiny_patch16_224", "vit_small_patch16_224")
TIMED = ("lora", "tucker3", "fact_tk", "miss[mode=bat]", "adamss")
"""What `make bench` times."""
QUICK_PAIRS, PAIRS = 14, 36
THREADS = 2


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A median of paired ratios and its interval."""

    median: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True, kw_only=True)
class Against:
    """One step of ours divided by one of another's."""

    flops: float
    saved_bytes: float
    seconds: Ratio | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method on one ViT."""

    model: str
    method: str
    trained: int
    first_block: int | None
    flops: int
    saved_bytes: int
    seconds: float | None
    """Median of a step."""
    against_floor: Against
    against_hf: Against | None
    floor_against_itself: Ratio | None


def quick() -> list[Row]:
    """The rows of `make bench`."""
    return list(_rows(MODELS[:1], cases(), lambda label: QUICK_PAIRS if label in TIMED else 0))


def _rows(
    models: Sequence[str], chosen: Sequence[Case], pairs_of: Callable[[str], int]
) -> Iterator[Row]:
    torch.set_num_threads(min(THREADS, os.cpu_count() or 1))
    for model in models:
        for case in chosen:
            yield _row(model, case, pairs_of(case.label))
            gc.collect()


@cache
def _exact_floor(model: str, first: int | None) -> tuple[int, int]:
    return floor(model, first).flops_and_saved_bytes()


def _row(model: str, case: Case, pairs: int) -> Row:
    mine = ours(model, case)
    first = first_adapted(mine)
    others = [floor(model, first)]
    exact = [mine.flops_and_saved_bytes(), _exact_floor(model, first)]
    if case.hf is not None:
        others.append(theirs(model, case))
        exact.append(others[1].flops_and_saved_bytes())
        assert others[1].trained == mine.trained, f"{case.label}: not what HF PEFT trains"
    twin = [floor(model, first)] if pairs else []
    times = _times([mine, *others, *twin], pairs)
    flops, saved = exact[0]
    against = [
        Against(
            flops=flops / other_flops,
            saved_bytes=saved / other_saved,
            seconds=_ratio(times[0], other_times) if pairs else None,
        )
        for (other_flops, other_saved), other_times in zip(exact[1:], times[1:], strict=False)
    ]
    return Row(
        model=model,
        method=case.label,
        trained=mine.trained,
        first_block=first,
        flops=flops,
        saved_bytes=saved,
        seconds=statistics.median(times[0]) if pairs else None,
        against_floor=against[0],
        against_hf=against[1] if len(against) > 1 else None,
        floor_against_itself=_ratio(times[-1], times[1]) if pairs else None,
    )


def _times(trainees: list[Trainee], rounds: int) -> list[list[float]]:
    """Seconds of each step of each trainee, one of each a round, in alternating order."""
    times: list[list[float]] = [[] for _ in trainees]
    if rounds:
        for trainee in trainees:
            trainee.step()
    for number in range(rounds):
        order = range(len(trainees))
        for index in order if number % 2 else reversed(order):
            began = time.perf_counter()
            trainees[index].step()
            times[index].append(time.perf_counter() - began)
    return times


def _ratio(times: list[float], others: list[float]) -> Ratio:
    """The median of paired ratios with its bootstrap interval."""
    ratios = [one / other for one, other in zip(times, others, strict=True)]
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return Ratio(
        median=statistics.median(ratios), low=medians[49], high=medians[-50], pairs=len(ratios)
    )


def show(rows: Sequence[Row]) -> None:
    """Print the rows as a table."""
    table = Table(
        "ViT",
        "method",
        "trained",
        "ms",
        "FLOPs",
        "saved",
        "time",
        "A/A",
        "FLOPs / HF",
        "saved / HF",
        "time / HF",
        box=None,
        title="A training step: ratios to the floor, and to HF PEFT",
    )
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        table.add_row(
            row.model.removesuffix("_patch16_224"),
            Text(row.method),
            f"{row.trained:,}",
            "" if row.seconds is None else f"{row.seconds * 1000:.0f}",
            *map(Text, _cells(row.against_floor)),
            Text(_interval(row.floor_against_itself)),
            *map(Text, _cells(row.against_hf)),
        )
    Console(width=160).print(table)


def _cells(against: Against | None) -> tuple[str, str, str]:
    if against is None:
        return ("", "", "")
    return f"{against.flops:.3f}", f"{against.saved_bytes:.3f}", _interval(against.seconds)


def _interval(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def main() -> int:
    """Measure everything and write it, row by row."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.steps", description=__doc__)
    labels = [case.label for case in cases()]
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--methods", nargs="+", default=labels, choices=labels, metavar="METHOD")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--out", type=Path, default=Path("bench-full.json"))
    given = parser.parse_args()
    chosen = [case for case in cases() if case.label in given.methods]
    rows = []
    for row in _rows(given.models, chosen, lambda _: int(given.pairs)):
        rows.append(row)
        given.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
        print(row.model, row.method, flush=True)
    show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
