"""Stores that code of every schema version wrote, kept as files: they are read, and go on."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from results import schema
from results.query import query
from results.reading import Reader
from results.record import Attempt, Epoch
from results.store import Store

SAMPLES = Path(__file__).parent / "samples"
VERSIONS = range(1, schema.SCHEMA_VERSION + 1)
ATTEMPTS = [("a", 1, "failed"), ("a", 2, "succeeded"), ("b", 1, "succeeded"), ("c", 1, "failed")]


@pytest.fixture(params=VERSIONS)
def sample(request, tmp_path):
    shutil.copytree(SAMPLES / f"schema-{request.param}", tmp_path / "store")
    return Store.open(tmp_path / "store")


def attempts_of(store):
    table = store.attempts(["status"])
    return list(zip(*(table.column(c).to_pylist() for c in table.column_names), strict=True))


def test_every_version_has_a_sample_that_its_own_code_wrote():
    kept = {path.name: path for path in SAMPLES.iterdir() if path.is_dir()}
    kept.pop("__pycache__", None)
    assert sorted(kept) == sorted(f"schema-{version}" for version in VERSIONS)
    for version in VERSIONS:
        reader = Reader(kept[f"schema-{version}"])
        assert len(reader.attempts()) == len(ATTEMPTS)
        assert reader.version == version


def test_a_sample_reads_as_it_was_written(sample):
    assert [(run, n, s) for run, s, n in attempts_of(sample)] == ATTEMPTS
    rows = sample.runs().to_pylist(maps_as_pydicts="strict")
    assert [(r["run_id"], r["seed"], r["attempts"], r["test_top1"]) for r in rows] == [
        ("a", 0, 2, 0.5),
        ("b", 1, 1, 0.75),
        ("c", 2, 1, None),
    ]
    first, _, last = rows
    assert first["started_at"] == datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert first["metrics"] == {"test/top1": 0.5, "test/nll": 1.5}
    assert (first["trainable_percent"], first["cost_comparable"]) == (25.0, True)
    assert (last["failure_kind"], last["error"]) == ("non_finite", "loss is nan in epoch 2")
    epochs = sample.epochs().to_pylist(maps_as_pydicts="strict")
    assert len(epochs) == 8
    assert [epochs[3][name] for name in ("run_id", "attempt", "epoch", "split")] == [
        *("a", 2, 2, "train")
    ]
    assert (epochs[3]["loss"], epochs[3]["metrics"]) == (0.5, {"nll": 0.5})
    assert [(cell.run_id, cell.axes, cell.variant) for cell in sample.plan("sample")] == [
        (run_id, {"seed": str(n)}, "lora[rank=4]") for n, run_id in enumerate("abcd")
    ]
    states = sample.states()
    assert {run: state.status for run, state in states.items()} == {
        "a": "succeeded",
        "b": "succeeded",
        "c": "failed",
    }
    assert sample.open_claims() == {
        "d": {"run_id": "d", "attempt": 1, "job": "job-1", "hostname": "host"}
    }
    assert sample.bad_files == []


def test_a_column_that_came_later_is_null_in_a_sample(sample):
    assert sample.runs().schema.names == [column.name for column in schema.RUNS]
    assert sample.runs().column("active_params").null_count == 3


def test_a_sample_is_queried(sample):
    sql = "select r.run_id, max(e.loss) l, any_value(p.suite) s from runs r join epochs e using "
    sql += "(run_id) join plans p using (run_id) where params['rank'] = '4' group by 1 order by 1"
    assert query(sample, sql).to_pylist() == [
        {"run_id": run_id, "l": 1.0, "s": "sample"} for run_id in "abc"
    ]


def test_a_sample_goes_on_and_is_compacted_and_collected_with_what_is_new(sample):
    before = sample.attempts(), sample.epochs()
    number = sample.claim("c", {})
    assert number == 2
    new = Attempt(run_id="c", attempt=2, status="succeeded", active_params=7)
    curve = [Epoch(run_id="c", attempt=2, epoch=1, split="train", loss=2.0)]
    assert sample.commit(new, curve)
    sample.compact()
    other = Attempt(run_id="d", attempt=1, status="stopped")
    assert sample.commit(other)
    sample.compact()
    assert sample.gc().attempts == 5
    read = Store.open(sample.path)
    assert read.attempts().slice(0, 4).equals(before[0])
    assert read.epochs().slice(0, 8).equals(before[1])
    assert read.runs(["active_params"]).column("active_params").to_pylist() == [None, None, 7, None]
    assert {run: state.attempts for run, state in read.states().items()} == {
        "a": 2,
        "b": 1,
        "c": 2,
        "d": 1,
    }
    assert read.open_claims() == {}
    assert read.bad_files == []
