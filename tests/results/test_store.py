"""The store's promises: one row per attempt whoever races, nothing torn, nothing fatal."""

import ast
import hashlib
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import results
from results import files, schema
from results.folder import FOLDERS
from results.record import Attempt, Epoch
from results.store import Latest, Store, StoreError

ROOT = Path(__file__).parents[2]


def epochs(run_id="run1", n=1, count=2):
    return [
        Epoch(run_id=run_id, attempt=n, epoch=e, split="train", loss=1 / e, metrics={"nll": 1 / e})
        for e in range(1, count + 1)
    ]


def snapshot(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.rglob("*"))}


def test_a_committed_attempt_reads_back_with_every_value(store):
    start = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    given = Attempt(
        run_id="run1",
        attempt=1,
        status="succeeded",
        seed=3,
        semantics={"training": 1},
        params={"rank": "8"},
        metrics={"test/top1": 0.75, "test/nll": 1.5},
        trainable_params=25,
        total_params=200,
        cost_comparable=False,
        started_at=start,
    )
    assert store.commit(given, epochs())
    (row,) = store.attempts().to_pylist(maps_as_pydicts="strict")
    assert (row["run_id"], row["attempt"], row["seed"]) == ("run1", 1, 3)
    assert (row["semantics"], row["params"]) == ({"training": 1}, {"rank": "8"})
    assert row["metrics"] == {"test/top1": 0.75, "test/nll": 1.5}
    assert (row["test_top1"], row["test_nll"], row["test_ece"]) == (0.75, 1.5, None)
    assert row["trainable_percent"] == 12.5
    assert row["cost_comparable"] is False
    assert row["started_at"] == start
    assert row["error"] is None
    data = (store.path / row["epochs_file"]).read_bytes()
    assert row["epochs_digest"] == hashlib.sha256(data).hexdigest()
    assert store.epochs().column("loss").to_pylist() == [1.0, 0.5]


RACER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from results.record import Attempt, Epoch
from results.store import Store

def race(me):
    store, won = Store.open(sys.argv[1]), []
    for n in range(1, 11):
        mine = Attempt(run_id="run1", attempt=n, status="succeeded", seed=me)
        rows = [Epoch(run_id="run1", attempt=n, epoch=e, split=f"by{me}") for e in range(3 + me)]
        if store.commit(mine, rows):
            won.append(n)
    return me, won

me = int(sys.argv[2])
with ThreadPoolExecutor(4) as pool:
    print("ready", flush=True)
    sys.stdin.readline()
    print(list(pool.map(race, range(me, me + 4))))
"""


def test_of_eight_racers_in_two_processes_exactly_one_commits_each_attempt(store):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(store.path), str(me)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in (0, 4)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = {}
    for racer in racers:
        won |= dict(ast.literal_eval(racer.communicate(timeout=60)[0]))
    assert len(won) == 8
    assert sorted(n for numbers in won.values() for n in numbers) == list(range(1, 11))
    assert store.bad_files == []
    epoch_rows = store.epochs().to_pylist()
    for row in store.attempts().to_pylist():
        winner = row["seed"]
        assert row["attempt"] in won[winner]
        found = [e["split"] for e in epoch_rows if e["attempt"] == row["attempt"]]
        assert found == [f"by{winner}"] * (3 + winner)
    left = [p.name for p in store.path.rglob("*") if p.is_file()]
    assert len(left) == 1 + 10 + 10, "marker, rows and the winners' epochs; no temporary file"


def test_a_lost_race_leaves_the_winner_as_it_was(store, attempt):
    assert store.commit(attempt(seed=1), epochs())
    before = snapshot(store.path / "attempts"), store.epochs()
    assert not store.commit(attempt(seed=2), epochs(count=5))
    assert (snapshot(store.path / "attempts"), store.epochs()) == before
    assert len(list((store.path / "epochs").iterdir())) == 1


def test_epochs_are_on_disk_before_the_attempt_row(store, attempt, monkeypatch):
    created = []

    def spy(path, data):
        created.append(path.parent.name)
        return files.create_exclusive(path, data)

    monkeypatch.setattr("results.store.create_exclusive", spy)
    store.commit(attempt(), epochs())
    assert created == ["epochs", "attempts"]


def test_epochs_without_a_committed_row_are_not_seen(store, attempt, monkeypatch):
    def crash(path, data):
        if path.parent.name == "attempts":
            raise StoreError("no space left")
        return files.create_exclusive(path, data)

    monkeypatch.setattr("results.store.create_exclusive", crash)
    with pytest.raises(StoreError):
        store.commit(attempt(), epochs())
    assert len(store.epochs()) == 0
    monkeypatch.undo()
    assert store.commit(attempt(), epochs())
    assert len(store.epochs()) == 2


def test_a_link_whose_reply_was_lost_is_a_win(tmp_path, monkeypatch):
    link = Path.hardlink_to

    def lossy(self, target):
        link(self, target)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(Path, "hardlink_to", lossy)
    assert files.create_exclusive(tmp_path / "a", b"x")
    assert not files.create_exclusive(tmp_path / "a", b"y")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_claims_count_up_over_claims_and_attempts(store, attempt):
    assert store.claim("run1", {"job": "j1"}) == 1
    assert store.claim("run1", {"job": "j2"}) == 2
    assert store.claim("run10", {}) == 1
    store.commit(attempt(n=3))
    assert store.claim("run1", {}) == 4
    store.commit(attempt(n=4))
    claim = json.loads((store.path / "claims" / "run1.2.json").read_bytes())
    assert claim == {"job": "j2", "run_id": "run1", "attempt": 2}


def test_the_latest_attempt_is_open_closed_or_none(store, attempt):
    assert store.latest("run1") == Latest(number=0, claim=None, succeeded=False)
    store.claim("run1", {"job": "j"})
    claim = {"job": "j", "run_id": "run1", "attempt": 1}
    assert store.latest("run1") == Latest(number=1, claim=claim, succeeded=False)
    store.commit(attempt("run1"))
    assert store.latest("run1") == Latest(number=1, claim=None, succeeded=True)
    store.claim("run1", {})
    assert store.latest("run1").succeeded


def test_an_attempt_that_another_process_opened_is_not_opened_again(store):
    assert store.try_claim("run1", 1, {"job": "j1"})
    assert not store.try_claim("run1", 1, {"job": "j2"})
    assert store.latest("run1").claim["job"] == "j1"


def test_racing_claims_get_different_numbers(store):
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: store.claim("run1", {}), range(24)))
    assert sorted(numbers) == list(range(1, 25))


def test_open_claims_are_those_without_a_row(store, attempt):
    for run_id in ("run1", "run2", "run2"):
        store.claim(run_id, {"job": "j"})
    store.commit(attempt("run1"))
    (store.path / "claims" / "run3.1.json").write_bytes(b"{")
    assert store.open_claims() == {"run2": {"job": "j", "run_id": "run2", "attempt": 2}}
    assert [path.name for path, _ in store.bad_files] == ["run3.1.json"]


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a.b", "a b"])
def test_a_run_id_that_is_no_file_name_is_refused(store, attempt, name):
    with pytest.raises(ValueError, match="allowed: letters"):
        store.claim(name, {})
    with pytest.raises(ValueError, match="allowed: letters"):
        store.commit(attempt(name))


def test_a_run_stands_by_its_first_success_else_by_its_latest_attempt(store, attempt):
    failed = {"status": "failed", "failure_kind": "data", "error": "no such image"}
    for n, fields in enumerate([failed, {}, {}, {"status": "stopped"}], start=1):
        store.commit(attempt("aa", n, **fields))
    for n in range(1, 12):
        store.commit(attempt("bb", n, **failed | {"error": f"try {n}"}))
    states = store.states()
    assert list(states) == ["aa", "bb"]
    assert (states["aa"].status, states["aa"].attempt, states["aa"].attempts) == ("succeeded", 2, 4)
    assert (states["bb"].status, states["bb"].attempt) == ("failed", 11)
    assert (states["bb"].failure_kind, states["bb"].error) == ("data", "try 11")
    runs = store.runs()
    assert runs.column_names == [column.name for column in schema.RUNS]
    assert runs.column("attempts").to_pylist() == [4, 11]
    assert runs.column("error").to_pylist() == [None, "try 11"]


def test_an_empty_store_has_empty_tables_with_all_columns(store):
    assert store.states() == {}
    for table, columns in (
        (store.attempts(), schema.ATTEMPTS),
        (store.epochs(), schema.EPOCHS),
        (store.runs(), schema.RUNS),
        (store.plans_table(), schema.PLANS),
    ):
        assert table.schema.equals(schema.arrow_schema(columns))
        assert len(table) == 0


def test_bad_files_are_named_and_set_aside(store, attempt):
    for run_id in ("good", "torn", "moved"):
        store.commit(attempt(run_id), epochs(run_id))
    folder = store.path / "attempts"
    torn = (folder / "torn.1.parquet").read_bytes()
    (folder / "torn.1.parquet").write_bytes(torn[: len(torn) // 2])
    (folder / "moved.2.parquet").write_bytes((folder / "moved.1.parquet").read_bytes())
    pq.write_table(pa.table({"run_id": ["foreign"], "x": [1]}), folder / "foreign.1.parquet")
    (folder / "empty.1.parquet").write_bytes(b"")
    (folder / "notes.txt").write_text("mine")
    assert store.runs().column("run_id").to_pylist() == ["good", "moved"]
    reasons = {path.name: reason for path, reason in store.bad_files}
    assert set(reasons) == {
        "torn.1.parquet",
        "moved.2.parquet",
        "foreign.1.parquet",
        "empty.1.parquet",
        "notes.txt",
    }
    assert "not a file of the table attempts" in reasons["foreign.1.parquet"]
    assert "('moved', 2)" in reasons["moved.2.parquet"]
    (folder / "torn.1.parquet").write_bytes(torn)
    assert set(store.states()) == {"good", "moved", "torn"}
    assert "torn.1.parquet" not in {path.name for path, _ in store.bad_files}


def test_lost_epochs_are_named_and_not_fatal(store, attempt):
    store.commit(attempt("run1"), epochs("run1"))
    store.commit(attempt("run2"), epochs("run2"))
    (path,) = (store.path / "epochs").glob("run1.*")
    path.unlink()
    assert set(store.epochs().column("run_id").to_pylist()) == {"run2"}
    assert store.bad_files[0][0] == path


def test_a_file_of_an_older_version_reads_with_nulls(store, attempt):
    store.commit(attempt("new", seed=1, device="cpu"))
    old = store.attempts().select(["run_id", "attempt", "status", "seed"])
    old = old.set_column(0, "run_id", pa.array(["old"]))
    (store.path / "attempts" / "old.1.parquet").write_bytes(files.parquet_bytes(old, "attempts"))
    rows = {row["run_id"]: row for row in store.attempts().to_pylist()}
    assert store.bad_files == []
    assert rows["old"]["seed"] == 1
    assert (rows["old"]["device"], rows["new"]["device"]) == (None, "cpu")
    assert rows["old"]["metrics"] is None


def test_a_file_of_a_newer_version_reads_without_its_new_columns(store, attempt):
    store.commit(attempt("run1"))
    path = store.path / "attempts" / "run1.1.parquet"
    newer = store.attempts().append_column("later", pa.array([1]))
    path.write_bytes(files.parquet_bytes(newer, "attempts"))
    assert store.attempts().schema.equals(schema.arrow_schema(schema.ATTEMPTS))
    assert store.states()["run1"].status == "succeeded"


def test_files_carry_the_schema_version(store, attempt):
    store.commit(attempt(), epochs())
    for folder in ("attempts", "epochs"):
        (path,) = (store.path / folder).iterdir()
        metadata = pq.read_metadata(path).metadata
        assert metadata[b"peftgrid.schema"] == str(schema.SCHEMA_VERSION).encode()
        assert path.stat().st_size < 10_000


def test_the_frame_keeps_integers_and_maps(store, attempt):
    store.commit(attempt("run1", seed=1, metrics={"test/top1": 0.5}))
    store.commit(attempt("run2"))
    frame = results.open(store.path).runs_frame()
    assert frame["seed"].isna().tolist() == [False, True]
    assert str(frame["seed"].dtype) == "Int64"
    assert frame["metrics"][0] == {"test/top1": 0.5}


def test_opening_says_what_is_wrong(tmp_path):
    with pytest.raises(StoreError, match=r"does not exist; `peftgrid run SUITE --store .*` makes"):
        Store.open(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    for create in (False, True):
        with pytest.raises(StoreError, match="is a file; allowed: a folder"):
            Store.open(tmp_path / "file", create=create)
    with pytest.raises(StoreError, match="cannot be made"):
        Store.open(tmp_path / "file" / "below", create=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match="not a peftgrid store"):
        Store.open(tmp_path / "other")
    with pytest.raises(StoreError, match=r"holds other files \(thesis.tex"):
        Store.open(tmp_path / "other", create=True)
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("held", ['{"peftgrid_store": 99}', "{}", "[]", "not json"])
def test_a_marker_of_another_format_is_refused(store, held):
    (store.path / "store.json").write_text(held)
    with pytest.raises(StoreError, match=r"store\.json"):
        Store.open(store.path)
    with pytest.raises(StoreError, match=r"store\.json"):
        Store.open(store.path, create=True)


def test_making_a_store_twice_or_at_once_is_one_store(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: Store.open(tmp_path / "a" / "b", create=True), range(16)))
    assert {s.path for s in stores} == {tmp_path / "a" / "b"}
    assert sorted(p.name for p in stores[0].path.iterdir()) == sorted((*FOLDERS, "store.json"))


def refuse_writing(monkeypatch):
    opened = Path.open

    def read_only(self, mode="r", *args, **kwargs):
        if set(mode) & set("wxa+"):
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", read_only)


def test_a_store_that_takes_no_files_is_refused_for_writing_and_read_all_the_same(
    store, attempt, cell, monkeypatch
):
    store.commit(attempt(), epochs())
    store.save_plan("demo", "0123456789abcdef", "suite: demo", [cell("run1", "lora", "mnist", 0)])
    refuse_writing(monkeypatch)
    with pytest.raises(StoreError, match="not writable"):
        Store.open(store.path, create=True)
    before = snapshot(store.path)
    reader = Store.open(store.path)
    counts = [len(t()) for t in (reader.attempts, reader.epochs, reader.runs, reader.plans_table)]
    assert counts == [1, 2, 1, 1]
    assert reader.states()["run1"].status == "succeeded"
    with pytest.raises(StoreError, match="could not be written"):
        reader.claim("run1", {})
    assert snapshot(store.path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission(store):
    folders = [store.path, *(p for p in store.path.iterdir() if p.is_dir())]
    for folder in folders:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(StoreError, match="not writable"):
            Store.open(store.path, create=True)
        assert Store.open(store.path).states() == {}
    finally:
        for folder in folders:
            folder.chmod(stat.S_IRWXU)


def test_a_damaged_store_is_an_error_not_an_empty_one(store):
    (store.path / "attempts").rmdir()
    with pytest.raises(StoreError, match="attempts: cannot be read"):
        store.states()
