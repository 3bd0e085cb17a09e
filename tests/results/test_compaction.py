"""Generations of tables: the same numbers whatever is compacted, collected or read meanwhile."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from results import compaction, generations, reading, schema
from results.query import query
from results.record import Epoch
from results.store import Store, StoreError

ROOT = Path(__file__).parents[2]


def epochs(run_id, n=1, count=2):
    return [
        Epoch(run_id=run_id, attempt=n, epoch=e, split="val", top1=e / 10, metrics={"x": 0.5})
        for e in range(1, count + 1)
    ]


def seen(store):
    """All that can be read of a store, by an instance that has read nothing yet."""
    fresh = Store.open(store.path)
    tables = fresh.attempts(), fresh.epochs(), fresh.runs(), fresh.attempts(["seed"])
    read = [table.to_pylist() for table in tables] + [fresh.states(), fresh.open_claims()]
    return read, fresh.bad_files


def names(store, folder):
    return sorted(path.name for path in (store.path / folder).iterdir())


@pytest.fixture
def add(store, attempt):
    """Claim and commit the next attempt at a run."""

    def run(run_id, **fields):
        n = store.claim(run_id, {"job": "j"})
        assert store.commit(attempt(run_id, n, **fields), epochs(run_id, n))

    return run


@pytest.fixture
def collected(store, add):
    """Runs a to d: a and b in both generations and collected, c in the newest, d in none."""
    add("a", status="failed", failure_kind="data")
    add("a", seed=3, metrics={"test/top1": 0.5})
    add("b", status="stopped")
    assert store.compact() == 1
    add("c")
    assert store.compact() == 2
    store.gc()
    add("d", evidence="x" * 100)
    return store


def test_compacting_and_collecting_change_nothing_that_is_read(store, add):
    add("a", status="failed", failure_kind="data")
    add("a", seed=3)
    store.claim("a", {"job": "open"})
    add("b")
    before = seen(store)
    assert before[1] == []
    files = {folder: names(store, folder) for folder in ("attempts", "epochs", "claims")}
    assert store.compact() == 1
    assert seen(store) == before
    assert {folder: names(store, folder) for folder in files} == files, "compacting deletes nothing"
    add("c")
    assert store.compact() == 2
    before = seen(store)
    assert store.gc() == compaction.Collected(attempts=3, epochs=3, claims=3)
    assert seen(store) == before
    assert names(store, "attempts") == ["c.1.parquet"]
    assert names(store, "claims") == ["a.3.json", "c.1.json"]
    add("d")
    assert store.compact() == 3
    before = seen(store)
    assert store.gc() == compaction.Collected(attempts=1, epochs=1, claims=1, tables=3)
    assert seen(store) == before
    assert set(store.states()) == {"a", "b", "c", "d"}
    assert names(store, "tables")[-2:] == ["gen-2.json", "gen-3.json"]
    assert len(names(store, "tables")) == 6


def test_what_is_compacted_already_is_not_compacted_again(store, add):
    assert store.compact() is None
    add("a")
    assert store.compact() == 1
    assert store.compact() is None
    assert Store.open(store.path).compact() is None
    assert len(names(store, "tables")) == 3


def test_nothing_is_collected_before_two_generations_hold_it(store, add):
    add("a")
    store.compact()
    assert store.gc() == compaction.Collected()
    assert names(store, "attempts") == ["a.1.parquet"]


def test_queries_read_generations_and_files_together(collected):
    sql = "SELECT run_id, attempts, test_top1 FROM runs ORDER BY 1"
    rows = [tuple(row.values()) for row in query(collected, sql).to_pylist()]
    assert rows == [("a", 2, 0.5), ("b", 1, None), ("c", 1, None), ("d", 1, None)]
    assert query(collected, "SELECT count(*) n FROM epochs").to_pylist() == [{"n": 10}]


def test_compacted_tables_are_compressed_and_checksummed(store, add):
    for number in range(50):
        add(f"run{number}", spec=json.dumps({"seed": number, "text": "abc" * 100}))
    store.compact()
    (path,) = (store.path / "tables").glob("attempts-*")
    column = pq.read_metadata(path).row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert column.has_dictionary_page
    small = sum(file.stat().st_size for file in (store.path / "attempts").iterdir())
    assert path.stat().st_size < small / 5


# Claims and commits after collecting


def test_claims_go_on_above_what_was_collected(collected):
    assert names(collected, "claims") == ["c.1.json", "d.1.json"]
    assert Store.open(collected.path).claim("a", {}) == 3
    assert Store.open(collected.path).claim("a", {}) == 4
    assert collected.claim("b", {}) == 2
    assert collected.claim("c", {}) == 2
    assert collected.claim("e", {}) == 1
    assert set(collected.open_claims()) == {"a", "b", "c", "e"}


def test_a_number_that_is_closed_and_collected_during_the_claim_is_not_given(
    collected, monkeypatch
):
    latest = reading.Reader.packed_latest
    stale = [(0, False)]

    def late(self, run_id):
        return stale.pop() if stale else latest(self, run_id)

    monkeypatch.setattr(reading.Reader, "packed_latest", late)
    assert Store.open(collected.path).claim("a", {}) == 3
    assert [name for name in names(collected, "claims") if name[0] == "a"] == ["a.3.json"]


def test_the_latest_attempt_is_known_after_collecting(collected):
    fresh = Store.open(collected.path)
    assert (fresh.latest("a").number, fresh.latest("a").claim) == (2, None)
    done = {run for run, state in fresh.states().items() if state.status == "succeeded"}
    assert done
    for run_id in "abcd":
        assert fresh.latest(run_id).succeeded == (run_id in done)


def test_compaction_is_due_after_enough_new_attempts(store, add, monkeypatch):
    monkeypatch.setattr(compaction, "DUE", 3)
    made = []
    for number in range(7):
        add(f"run{number}")
        made.append(store.compact_when_due())
    assert made == [None, None, 1, None, None, 2, None]


def test_a_number_whose_claim_was_lost_is_not_given_while_its_row_is_there(store, add):
    add("a")
    (store.path / "claims" / "a.1.json").unlink()
    assert Store.open(store.path).claim("a", {}) == 2


def test_a_claim_lists_no_folder_that_grows_with_the_runs(collected, monkeypatch):
    listed = []
    for holder, name in ((os, "scandir"), (os, "listdir")):
        real = getattr(holder, name)

        def spy(path=".", real=real):
            listed.append(Path(path).name)
            return real(path)

        monkeypatch.setattr(holder, name, spy)
    fresh = Store.open(collected.path)
    for number in range(3):
        assert fresh.claim("a", {}) == 3 + number
        assert fresh.claim(f"new{number}", {}) == 1
    assert set(listed) == {"tables"}
    fresh.open_claims()
    assert "claims" in listed, "the spy sees what it should"


def test_a_zombie_cannot_close_an_attempt_again_that_was_collected(collected, attempt):
    before = seen(collected)
    files = names(collected, "attempts"), names(collected, "epochs")
    zombie = Store.open(collected.path)
    assert not zombie.commit(attempt("b", 1, seed=9), epochs("b", count=7))
    assert (names(collected, "attempts"), names(collected, "epochs")) == files
    assert seen(collected) == before


def test_a_commit_repeated_after_collecting_is_still_the_first(collected, attempt):
    again = attempt("b", 1, status="stopped"), epochs("b")
    assert collected.commit(*again)
    assert not (collected.path / "attempts" / "b.1.parquet").exists()
    assert collected.states()["b"].status == "stopped"


def test_what_a_zombie_left_under_a_collected_name_counts_for_nothing(collected, attempt):
    before = seen(collected)
    other = Store.open(collected.path.parent / "other", create=True)
    other.commit(attempt("b", 1, seed=9))
    left = collected.path / "attempts" / "b.1.parquet"
    left.write_bytes((other.path / "attempts" / "b.1.parquet").read_bytes())
    assert seen(collected) == before
    assert collected.gc().attempts == 1
    assert not left.exists()


# Other processes meanwhile


def test_files_that_vanish_while_they_are_read_are_found_in_the_new_generation(
    collected, attempt, monkeypatch
):
    collected.commit(attempt("e", 1), epochs("e"))
    before = seen(collected)
    read, other = reading.read_parquet, Store.open(collected.path)
    calls = []

    def meanwhile(path, *args):
        if not calls:
            calls.append(path)
            other.compact()
            other.commit(attempt("a", 7, status="stopped"))
            other.compact()
            assert other.gc().attempts == 3
        return read(path, *args)

    reader = Store.open(collected.path)
    monkeypatch.setattr(reading, "read_parquet", meanwhile)
    states = reader.states()
    assert calls[0].name == "d.1.parquet", "it was deleted before it was read"
    assert not calls[0].exists()
    assert set(states) == {"a", "b", "c", "d", "e"}
    assert states["a"].attempts == 3
    assert reader.bad_files == []
    assert seen(collected)[0][1] == before[0][1]


def test_files_that_vanish_before_they_are_listed_are_found_in_the_new_generation(
    collected, attempt, monkeypatch
):
    packed, other, calls = reading.Reader.packed, Store.open(collected.path), []

    def meanwhile(self, *args):
        table = packed(self, *args)
        if not calls:
            calls.append(args)
            other.compact()
            other.commit(attempt("a", 7, status="stopped"))
            other.compact()
            assert other.gc().attempts == 2
        return table

    monkeypatch.setattr(reading.Reader, "packed", meanwhile)
    reader = Store.open(collected.path)
    assert set(reader.states()) == {"a", "b", "c", "d"}
    assert reader.bad_files == []


def test_tables_that_vanish_while_they_are_read_are_found_in_the_new_generation(
    collected, attempt, monkeypatch
):
    load, other, calls = generations.load, Store.open(collected.path), []

    def meanwhile(path, number):
        generation = load(path, number)
        if not calls:
            calls.append(number)
            for n in (7, 8):
                other.commit(attempt("a", n, status="stopped"))
                other.compact()
            other.gc()
        return generation

    reader = Store.open(collected.path)
    monkeypatch.setattr(generations, "load", meanwhile)
    assert reader.states()["a"].attempts == 4
    assert reader.bad_files == []
    assert [path.name for path in (collected.path / "tables").glob("gen-*")] != ["gen-2.json"]


def test_of_two_processes_that_compact_at_once_one_makes_the_generation(
    collected, attempt, monkeypatch
):
    write, other = generations.write, Store.open(collected.path)

    def beaten(*args):
        monkeypatch.setattr(generations, "write", write)
        assert other.compact() == 3
        return write(*args)

    monkeypatch.setattr(generations, "write", beaten)
    assert collected.compact() is None
    assert len(list((collected.path / "tables").glob("*-3.*"))) == 3, "the loser's files are gone"
    assert set(collected.states()) == {"a", "b", "c", "d"}


WRITER = """
import sys
from results.record import Attempt, Epoch
from results.store import Store

store = Store.open(sys.argv[1])
for number in range(80):
    run_id = f"run{number % 27}"
    n = store.claim(run_id, {})
    rows = [Epoch(run_id=run_id, attempt=n, epoch=1, split="val")]
    assert store.commit(Attempt(run_id=run_id, attempt=n, status="stopped"), rows)
    print(number + 1, flush=True)
    if number % 4 == 3:
        assert store.compact()
        store.gc()
"""


def test_a_reader_misses_nothing_while_another_process_commits_compacts_and_collects(store):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store.path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    reader = Store.open(store.path)
    with writer:
        for line in writer.stdout:
            keys = reading.keys_of(reader.attempts(["seed"]))
            assert len(keys) >= int(line)
            assert len(reader.epochs()) >= len(keys)
            assert reader.bad_files == []
    assert writer.returncode == 0
    attempts = reader.attempts()
    assert len(attempts) == 80
    assert {state.attempts for state in reader.states().values()} == {2, 3}
    assert len(names(store, "attempts")) == 4, "the others were collected"


# Caution


def test_gc_deletes_nothing_while_a_generation_is_damaged(collected, attempt):
    collected.compact()
    path = next((collected.path / "tables").glob("epochs-3.*"))
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    files = {folder: names(collected, folder) for folder in ("attempts", "epochs", "tables")}
    with pytest.raises(StoreError, match=r"gen-3\.json: damaged .* before `peftgrid fsck"):
        collected.gc()
    assert {folder: names(collected, folder) for folder in files} == files
    path.write_bytes(data)
    assert collected.gc().attempts == 1


def test_gc_deletes_nothing_where_the_newest_generation_lacks_a_row(collected):
    attempts, epoch_rows = collected.attempts(), collected.epochs()
    assert generations.write(collected.path, 3, attempts.slice(1), epoch_rows)
    with pytest.raises(StoreError, match="generation 3 lacks attempt 1 of a"):
        collected.gc()
    assert names(collected, "attempts") == ["c.1.parquet", "d.1.parquet"]


def test_what_the_loser_of_a_race_left_is_collected_with_the_attempt(store, attempt, add):
    store.commit(attempt("a"))
    store.compact()
    add("b")
    store.compact()
    left = store.path / "epochs" / "a.1.abcd.parquet"
    left.write_bytes(b"")
    early = store.path / "epochs" / "c.1.abcd.parquet"
    early.write_bytes(b"")
    assert store.gc().epochs == 1
    assert not left.exists()
    assert early.exists(), "its attempt may be about to be committed"


def test_tables_that_no_generation_names_are_collected_unless_they_may_become_one(collected):
    tables = collected.path / "tables"
    for name in ("attempts-1.aa.parquet", "epochs-2.bb.parquet", "attempts-3.cc.parquet"):
        (tables / name).write_bytes(b"")
    collected.gc()
    assert not (tables / "attempts-1.aa.parquet").exists()
    assert not (tables / "epochs-2.bb.parquet").exists()
    assert (tables / "attempts-3.cc.parquet").exists()


def test_what_a_newer_version_wrote_is_read_but_not_compacted(store, add, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr("results.files.SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
        add("a")
    assert set(store.states()) == {"a"}
    with pytest.raises(StoreError, match=f"allowed: up to {schema.SCHEMA_VERSION}"):
        Store.open(store.path).compact()


def test_compacting_refuses_where_no_generation_can_be_read(collected):
    for path in (collected.path / "tables").glob("gen-*"):
        path.write_bytes(b"{}")
    with pytest.raises(StoreError, match="fsck --repair"):
        collected.compact()
