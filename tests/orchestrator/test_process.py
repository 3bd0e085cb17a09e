"""The installed command as a process of its own, on an embedded Ray of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.plan import Wanted, make_plan
from results.store import Store
from suites.load import load

pytestmark = [pytest.mark.ray, pytest.mark.slow]
COMMAND = Path(sys.executable).parent / "peftgrid"
SUITE = """
schema: 1
suite: own
backbone: vit_tiny_fashion
methods: [linear]
datasets: [{{name: shapes_location, train: 48, val: 32, test: 48}}]
train: {{epochs: {epochs}, batch_size: 24}}
"""


@pytest.fixture
def folder(tmp_path):
    """A user's folder that happens to hold names like ours."""
    (tmp_path / "results.py").write_text("raise RuntimeError('the user's results.py was imported')")
    for name in ("adapters", "suites", "orchestrator"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('a user package')")
    return tmp_path


def test_a_folder_with_packages_of_the_same_names_does_not_disturb(folder):
    (folder / "own.yaml").write_text(SUITE.format(epochs=1))
    done = subprocess.run(
        [COMMAND, "run", "own.yaml", "--json"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["started"], report["succeeded"], report["left"]) == (1, 1, 0)
    assert report["seconds_to_first_step"] > 0
    assert Path(report["store"]) == folder / "runs"
    assert "succeeded" in done.stderr


def test_an_interrupt_stops_at_the_next_step_and_the_run_is_done_later(folder):
    path = folder / "own.yaml"
    path.write_text(SUITE.format(epochs=100_000))
    running = subprocess.Popen(
        [COMMAND, "run", "own.yaml"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with running:
        deadline = time.monotonic() + 120
        while not list(folder.glob("runs/claims/*.json")):
            assert running.poll() is None, running.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(2)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=60)
    assert running.returncode == 130, out
    assert "1 left" in out
    assert "Traceback" not in out
    store = Store.open(folder / "runs")
    (row,) = store.attempts().to_pylist()
    assert row["status"] == "stopped"
    (run,) = make_plan(load(path), store).to_do(Wanted())
    assert run.cell.spec.run_id == row["run_id"]
