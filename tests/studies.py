"""`make studies`: the tuned quickstart and a small twin of every study, run and asked what they must show.

All suites go through the command line, in one process that keeps Ray between them. Rows that the store has
are not made again, so a second call only asks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator import cluster
from orchestrator.cli import main as peftgrid
from results import stats
from results.query import query
from results.store import Store
from suites import catalog

BEATEN_BY = 6
"""How many methods must beat `linear` outside its interval, on each of two data sets."""
ASA_LEAVES = 6 * 2 * 2
"""Blocks x matrices x subspaces that the suite asks for in each."""


def main() -> int:
    """0 if every suite came to its end and shows what it must."""
    store, out = Path("runs").resolve(), Path("studies").resolve()
    out.mkdir(exist_ok=True)
    minis = [name for name in catalog.names() if name.endswith("_mini")]
    with cluster.running(None, cpus=None, threads=1):
        for name in ("quickstart_tune", *minis):
            began = time.monotonic()
            _call("run", name, "--store", store)
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    wrong = [f"{name}: {problem}" for name in minis for problem in _problems(store, name)]
    for name in ("quickstart_tune", *minis):
        _call("report", name, "--store", store, "--out", out / f"{name}.html")
        _call("figure", "curves", name, "--store", store, "--out", out / f"{name}-curves.svg")
    checks: tuple[Callable[[Path, Path], list[str]], ...] = (_learning, _asa, _robustness)
    wrong += [problem for check in checks for problem in check(store, out)]
    print(
        "\n".join(wrong) or f"all of {len(minis) + 1} studies show what they must; pages in {out}"
    )
    return 1 if wrong else 0


def _problems(store: Path, suite: str) -> list[str]:
    """What every study must hold: all runs done, tuned without the test set, tested once."""
    rows = query(
        Store.open(store),
        f"""
        SELECT p.stage, r.status, r.test_top1,
               (SELECT count(*) FROM epochs e WHERE e.run_id = p.run_id AND e.split = 'test') AS tested
        FROM plans p LEFT JOIN runs r USING (run_id) WHERE p.suite = '{suite}'
        """,
    ).to_pylist()
    found = [] if rows else ["no cell"]
    for row in rows:
        if row["status"] != "succeeded":
            found.append(f"a {row['stage']} cell is {row['status'] or 'not run'}")
        elif row["tested"] != (0 if row["stage"] == "tune" else 1):
            found.append(f"a {row['stage']} cell scored the test set {row['tested']} times")
        elif (row["test_top1"] is None) != (row["stage"] == "tune"):
            found.append(f"a {row['stage']} cell has test top-1 {row['test_top1']}")
    return found


def _learning(store: Path, _: Path) -> list[str]:
    """Adapted models learn: outside the interval of the linear probe, on real images and drawn ones."""
    rows = query(
        Store.open(store),
        """
        SELECT p.dataset, p.method, list(r.test_top1) AS scores FROM plans p JOIN runs r USING (run_id)
        WHERE p.suite = 'quickstart_tune' AND p.stage = 'final' GROUP BY ALL ORDER BY ALL
        """,
    ).to_pylist()
    scores = {(row["dataset"], row["method"]): row["scores"] for row in rows}
    datasets = sorted({dataset for dataset, _ in scores})
    found = [] if len(datasets) >= 2 else [f"quickstart_tune: {len(datasets)} data sets"]
    found += [f"quickstart_tune: {len(s)} seeds of {k}" for k, s in scores.items() if len(s) != 3]
    for dataset in datasets:
        interval = stats.mean_interval([scores[dataset, "linear"]])
        assert interval is not None
        above = [
            method
            for (name, method), own in scores.items()
            if name == dataset and sum(own) / len(own) > interval.high
        ]
        print(
            f"{dataset}: linear up to {interval.high:.4f}, beaten by {len(above)}: {', '.join(above)}"
        )
        if len(above) < BEATEN_BY:
            found.append(f"quickstart_tune: {len(above)} methods beat linear on {dataset}")
    return found


def _asa(store: Path, _: Path) -> list[str]:
    """Runs with ASA end with exactly the target."""
    rows = query(
        Store.open(store),
        """
        SELECT r.active_subspaces AS active, count(*) AS runs FROM plans p JOIN runs r USING (run_id)
        WHERE p.suite = 'adamss_vision_mini' AND p.variant LIKE '%asa%' GROUP BY ALL
        """,
    ).to_pylist()
    right = [row["active"] for row in rows] == [ASA_LEAVES]
    return [] if right else [f"adamss_vision_mini: active subspaces {rows}, not {ASA_LEAVES}"]


def _robustness(store: Path, out: Path) -> list[str]:
    """Shifted sets and WiSE start no training, and the path's ends are the two models."""
    suite, sets = "osu_robustness_mini", ("own", "own+gaussian_noise:3", "own+contrast:3")
    attempts = len(Store.open(store).attempts())
    words = [word for name in sets for word in ("--on", name)]
    _call("evaluate", suite, "--store", store, "--zero-shot", "--wise", "all", *words)
    _call("figure", "wise", suite, "--store", store, "--out", out / f"{suite}-wise.svg")
    opened = Store.open(store)
    found = []
    if len(opened.attempts()) != attempts:
        found.append(f"{suite}: evaluating it made attempts")
    rows = query(
        opened,
        f"""
        SELECT count(*) AS pairs, max(abs(a.loss - b.loss)) AS apart
        FROM evaluations a JOIN evaluations b USING (run_id, set, alpha)
        JOIN plans p USING (run_id)
        WHERE p.suite = '{suite}' AND a.mode = 'all' AND b.mode IN ('zero_shot', 'trained')
        """,
    ).to_pylist()
    if rows[0]["pairs"] != 10 * len(sets) * 2 or rows[0]["apart"] != 0:
        found.append(f"{suite}: the ends of the path are not the two models: {rows[0]}")
    return found


def _call(*words: object) -> None:
    """A command, as the shell would call it; ends this process where it fails."""
    sys.argv = ["peftgrid", *map(str, words)]
    try:
        peftgrid()
    except SystemExit as end:
        if end.code:
            raise


if __name__ == "__main__":
    sys.exit(main())
