"""Faults in single files: either the numbers are right all the same, or the file is named."""

import hashlib
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results import files, schema
from results.record import Epoch, to_table
from results.store import Store


def epochs(run_id, n=1):
    return [Epoch(run_id=run_id, attempt=n, epoch=e, split="val", top1=e / 10) for e in (1, 2)]


def flip(path, at, bit=0):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


FAULTS = {
    "flipped": lambda path: flip(path, path.stat().st_size // 2),
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("folder", ["attempts", "epochs"])
def test_after_the_flip_of_any_byte_a_file_reads_the_same_or_is_named(store, attempt, folder):
    store.commit(attempt(metrics={"test/top1": 0.5}, spec="{}", seed=1), epochs("run1"))
    (path,) = (store.path / folder).iterdir()
    columns = {"attempts": schema.ATTEMPTS, "epochs": schema.EPOCHS}[folder]
    data = path.read_bytes()
    right, _ = files.read_parquet(path, folder, columns)
    key = data.index(b"peftgrid.sha256")
    noticed = 0
    for at in {
        *range(0, len(data), 7),
        *range(key - 30, key + 90),
        *range(len(data) - 30, len(data)),
    }:
        path.write_bytes(data)
        flip(path, at, bit=at % 8)
        try:
            held, _ = files.read_parquet(path, folder, columns)
        except files.UNREADABLE:
            noticed += 1
        else:
            assert held.equals(right), at
            assert key <= at < key + 15, "only the name of the digest may go unnoticed"
    assert noticed > 100


def test_a_flipped_attempt_is_named_and_its_run_is_not_done(store, attempt):
    for run_id in ("run1", "run2"):
        store.commit(attempt(run_id, store.claim(run_id, {})), epochs(run_id))
    path = store.path / "attempts" / "run1.1.parquet"
    flip(path, 40)
    fresh = Store.open(store.path)
    assert set(fresh.states()) == {"run2"}
    assert set(fresh.epochs().column("run_id").to_pylist()) == {"run2"}
    assert fresh.bad_files == [(path, "its content does not match its digest")]
    assert fresh.claim("run1", {}) == 2
    fresh.commit(attempt("run1", 2))
    assert fresh.states()["run1"].attempt == 2


def test_files_from_before_digests_are_read(store, attempt):
    table = to_table([attempt(seed=4).to_row()], schema.ATTEMPTS)
    path = store.path / "attempts" / "run1.1.parquet"
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"peftgrid.table": "attempts", "peftgrid.schema": "1"})
    assert store.attempts().equals(table)
    assert store.bad_files == []


def test_other_readers_of_parquet_take_the_files(store, attempt):
    store.commit(attempt(seed=4), epochs("run1"))
    table = pq.read_table(store.path / "attempts" / "run1.1.parquet")
    assert table.column("seed").to_pylist() == [4]


def test_the_digest_of_a_file_covers_values_that_look_like_it(tmp_path):
    table = pa.table({"error": ["peftgrid.sha256" + "0" * 80]})
    data = files.parquet_bytes(table, "attempts")
    (tmp_path / "a").write_bytes(data)
    column = (schema.Column("error", schema.TEXT, "text"),)
    assert files.read_parquet(tmp_path / "a", "attempts", column)[0].equals(table)
    flip(tmp_path / "a", data.index(b"peftgrid.sha256") + 40)
    with pytest.raises(ValueError, match="does not match its digest"):
        files.read_parquet(tmp_path / "a", "attempts", column)


@pytest.mark.parametrize("fault", FAULTS)
def test_torn_epochs_are_named_and_the_others_are_read(store, attempt, fault):
    for run_id in ("run1", "run2"):
        store.commit(attempt(run_id), epochs(run_id))
    (path,) = (store.path / "epochs").glob("run1.*")
    FAULTS[fault](path)
    assert set(store.epochs().column("run_id").to_pylist()) == {"run2"}
    assert [bad for bad, _ in store.bad_files] == [path]
    assert set(store.states()) == {"run1", "run2"}


def test_epochs_that_are_whole_but_not_those_of_the_row_are_named(store, attempt):
    store.commit(attempt(), epochs("run1"))
    (path,) = (store.path / "epochs").iterdir()
    other = to_table([epochs("run1")[0].to_row()], schema.EPOCHS)
    path.write_bytes(files.parquet_bytes(other, "epochs"))
    assert len(store.epochs()) == 0
    assert "digest is not the one that its attempt's row names" in store.bad_files[0][1]


@pytest.fixture
def collected(store, attempt):
    """Two generations, collected: a in both, b in the newest, c in none. What is read of it."""
    for run_id in ("a", "b"):
        store.commit(attempt(run_id), epochs(run_id))
        store.compact()
    store.gc()
    assert [path.name for path in (store.path / "attempts").iterdir()] == ["b.1.parquet"]
    store.commit(attempt("c"), epochs("c"))
    return store.attempts(), store.epochs()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("pattern", ["gen-2.json", "attempts-2.*", "epochs-2.*"])
@pytest.mark.parametrize("known", [False, True], ids=["fresh reader", "reader that knew it whole"])
def test_a_damaged_table_or_pointer_costs_no_number(store, collected, pattern, fault, known):
    reader = store if known else Store.open(store.path)
    (path,) = (store.path / "tables").glob(pattern)
    FAULTS[fault](path)
    assert reader.attempts().equals(collected[0])
    assert reader.epochs().equals(collected[1])
    assert [bad for bad, _ in reader.bad_files] == (
        [path] if path.exists() or "gen" not in pattern else []
    )
    assert reader.claim("a", {}) == 2
    number = reader.compact()
    assert number == (2 if pattern == "gen-2.json" and fault == "deleted" else 3)
    fresh = Store.open(store.path)
    assert fresh.attempts().equals(collected[0])
    assert fresh.epochs().equals(collected[1])
    assert fresh.bad_files == [], "the newest generation is whole"


def test_a_flip_anywhere_in_tables_costs_no_number(store, collected):
    for path in (store.path / "tables").glob("*2.*"):
        data = path.read_bytes()
        for at in range(0, len(data), max(1, len(data) // 40)):
            flip(path, at, bit=at % 8)
            reader = Store.open(store.path)
            assert reader.attempts().equals(collected[0])
            assert reader.epochs().equals(collected[1])
            path.write_bytes(data)


def test_flips_in_pages_after_a_table_was_verified_are_noticed(store, attempt, monkeypatch):
    letters = random.Random(0)
    text = "".join(chr(letters.randrange(33, 127)) for _ in range(400))
    store.commit(attempt("a", spec=text))
    store.compact()
    (path,) = (store.path / "tables").glob("attempts-1.*")
    monkeypatch.setattr("results.generations.Parts.check", lambda self, part: None)
    group = pq.read_metadata(path).row_group(0)
    chunks = [group.column(index) for index in range(group.num_columns)]
    (chunk,) = (each for each in chunks if each.path_in_schema == "spec")
    data = path.read_bytes()
    for at in range(chunk.dictionary_page_offset + 100, chunk.data_page_offset - 100, 5):
        flip(path, at)
        reader = Store.open(store.path)
        assert reader.attempts(["spec"]).column("spec").to_pylist() == [text]
        assert [bad for bad, _ in reader.bad_files] == [path]
        path.write_bytes(data)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_attempt_that_a_generation_covers_costs_nothing(store, collected, fault):
    FAULTS[fault](store.path / "attempts" / "b.1.parquet")
    fresh = Store.open(store.path)
    assert fresh.attempts().equals(collected[0])
    assert fresh.epochs().equals(collected[1])
    assert fresh.bad_files == []


def test_a_torn_attempt_is_not_compacted_and_stays_named(store, attempt):
    for run_id in ("run1", "run2"):
        store.commit(attempt(run_id), epochs(run_id))
    path = store.path / "attempts" / "run1.1.parquet"
    data = path.read_bytes()
    truncate(path)
    store.compact()
    fresh = Store.open(store.path)
    assert set(fresh.states()) == {"run2"}
    assert [bad for bad, _ in fresh.bad_files] == [path]
    path.write_bytes(data)
    assert set(Store.open(store.path).states()) == {"run1", "run2"}


def test_the_digest_that_a_row_names_is_that_of_the_whole_epochs_file(store, attempt):
    store.commit(attempt(), epochs("run1"))
    (row,) = store.attempts().to_pylist()
    (path,) = (store.path / "epochs").iterdir()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row["epochs_digest"]


@pytest.mark.parametrize("at", range(0, 90, 3))
def test_a_flipped_decision_is_the_same_or_named(store, at):
    store.save_decision("run1", 1, {"again": True, "reason": "worker_lost 1 of at most 3"})
    right = store.decisions()
    (path,) = (store.path / "decisions").iterdir()
    flip(path, at, bit=at % 7)
    fresh = Store.open(store.path)
    held = fresh.decisions()
    assert held == right or (held == {} and [bad for bad, _ in fresh.bad_files] == [path])


def test_decisions_are_kept_for_good_and_bad_ones_named(store):
    assert store.decisions() == {}
    assert store.save_decision("run1", 2, {"again": True, "reason": "first"})
    assert not store.save_decision("run1", 2, {"again": False, "reason": "second"})
    assert store.save_decision("run1", 3, {"again": False, "reason": "third"})
    folder = store.path / "decisions"
    (folder / "run2.1.json").write_bytes((folder / "run1.2.json").read_bytes())
    (folder / "notes.txt").write_text("mine")
    assert store.decisions() == {
        ("run1", 2): {"run_id": "run1", "attempt": 2, "again": True, "reason": "first"},
        ("run1", 3): {"run_id": "run1", "attempt": 3, "again": False, "reason": "third"},
    }
    assert [path.name for path, _ in store.bad_files] == ["notes.txt", "run2.1.json"]
