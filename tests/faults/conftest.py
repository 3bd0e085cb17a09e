"""Real drivers as processes on a real local Ray, and methods made to fail.

The tree under test is a copy of the four packages with the methods of `tests/faults/methods` in it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from results.store import Store

ROOT = Path(__file__).parents[2]
MAIN = "from orchestrator.cli import main; main()"
SCIENCE = (
    *("run_id", "status", "best_epoch", "metrics", "train_top1", "val_top1", "test_top1"),
    *("test_nll", "test_ece", "trainable_params", "adapter_params", "head_params", "total_params"),
)
SUITE = """
schema: 1
suite: {name}
backbone: vit_tiny_fashion
methods:
{methods}
datasets: [{{name: shapes_location, train: 48, val: 32, test: 48}}]
seeds: {seeds}
train: {{epochs: {epochs}, batch_size: 12, lr: 1e-2{train}}}
{more}
"""


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """The packages with the failing methods among their own."""
    tree = tmp_path_factory.mktemp("tree")
    for room in ("adapters", "orchestrator", "results", "suites"):
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    for method in (Path(__file__).parent / "methods").glob("*.py"):
        shutil.copy(method, tree / "adapters" / "methods")
    return tree


class Place:
    """A folder with suites and stores, and the commands that are run in it."""

    def __init__(self, tree, folder):
        self.tree, self.folder = tree, folder
        self.store_path = folder / "store"
        self._drivers = []

    def suite(self, name, methods, *, seeds=1, epochs=2, train="", more=""):
        lines = "\n".join(f"  - {method}" for method in methods)
        path = self.folder / f"{name}.yaml"
        path.write_text(
            SUITE.format(
                name=name, methods=lines, seeds=seeds, epochs=epochs, train=train, more=more
            )
        )
        return path

    def start(self, verb, *arguments, prefix=()):
        """A command as a process; its standard error is kept in a file beside the store."""
        number = len(self._drivers)
        log = self.folder / f"driver-{number}.log"
        with log.open("w") as output:
            driver = subprocess.Popen(
                [
                    *(*prefix, sys.executable, "-c", MAIN, verb, *map(str, arguments)),
                    *("--store", str(self.store_path)),
                ],
                cwd=self.folder,
                env=os.environ
                | {
                    "PYTHONPATH": str(self.tree),
                    "OMP_NUM_THREADS": "1",
                    "RAY_AUTH_MODE": "disabled",
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        driver.log = log
        self._drivers.append(driver)
        return driver

    def run(self, verb, *arguments, timeout=180, **options):
        """A command to its end: its exit code and what it said."""
        driver = self.start(verb, *arguments, **options)
        code = driver.wait(timeout)
        return code, driver.log.read_text()

    def close(self):
        for driver in self._drivers:
            if driver.poll() is None:
                driver.send_signal(signal.SIGCONT)
                driver.kill()
                driver.wait()

    @property
    def store(self):
        return Store.open(self.store_path)

    def claims(self):
        """The open claims; none while there is no whole store, whose last folder is `logs`."""
        return self.store.open_claims() if (self.store_path / "logs").exists() else {}

    def rows(self, *columns):
        """The science columns of every run, or those named, by run."""
        return self.store.runs().select(["run_id", *columns] if columns else SCIENCE).to_pylist()

    def equals(self, undisturbed):
        """Whether the store has runs, and each is what it is undisturbed, bit for bit."""
        rows = self.rows()
        return bool(rows) and all(row == undisturbed[row["run_id"]] for row in rows)

    def attempts(self, **values):
        """Rows of attempts, in order, that have these values."""
        return [
            row
            for row in self.store.attempts().to_pylist()
            if all(row[name] == value for name, value in values.items())
        ]


SLOWED = "{name: slowed, rank: 2, dropout: 0.1, seconds: 0.15}"


@pytest.fixture(scope="session")
def undisturbed(tree, tmp_path_factory):
    """The science of every run of `SLOWED` with three seeds and four epochs, by run."""
    place = Place(tree, tmp_path_factory.mktemp("undisturbed"))
    code, said = place.run("run", place.suite("undisturbed", [SLOWED], seeds=3, epochs=4))
    assert code == 0, said
    place.close()
    return {row["run_id"]: row for row in place.rows()}


@pytest.fixture
def place(tree, tmp_path):
    """A folder of its own for each test; what still runs at its end is killed."""
    made = Place(tree, tmp_path)
    yield made
    made.close()


def until(what, timeout=90, every=0.02):
    """Wait for `what()` to be true and return it."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"not within {timeout} s: {what}")


def checkpoint_of(place, epoch):
    """An open claim whose run's newest checkpoint has just that many whole epochs."""

    def found():
        for run_id, claim in place.claims().items():
            folder = place.store_path / "checkpoints" / run_id
            if max(map(_epoch_of, folder.glob("*.json")), default=-1) == epoch:
                return claim
        return None

    return found


def _epoch_of(path):
    try:
        return json.loads(path.read_text())["epoch"]
    except (OSError, ValueError):  # removed, or not whole
        return -1


def pytest_terminal_summary(terminalreporter):
    """The fault matrix of this run."""
    reports = [
        (outcome, report)
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call" and "tests/faults/" in report.nodeid
    ]
    if reports:
        terminalreporter.section("fault matrix")
    for outcome, report in reports:
        words = report.nodeid.rpartition("::test_")[2].replace("_", " ")
        terminalreporter.write_line(f"{outcome}  {report.duration:5.0f} s  {words}")
