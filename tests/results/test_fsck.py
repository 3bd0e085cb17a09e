"""fsck names every damaged file; repairing moves them aside, and a new check is clean."""

import hashlib
import json
import os
import shutil

import pytest

from results import files
from results.files import sealed_json
from results.fsck import check
from results.models import save_model
from results.quarantine import repair
from results.record import Epoch
from results.store import Store, StoreError

DIGEST = "0123456789abcdef"


def epochs(run_id):
    return [Epoch(run_id=run_id, attempt=1, epoch=e, split="val", top1=e / 10) for e in (1, 2)]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def write_checkpoint(store, run_id, stem, data):
    folder = store.path / "checkpoints" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.safetensors").write_bytes(data)
    body = {"digest": hashlib.sha256(data).hexdigest(), "digests": {}}
    (folder / f"{stem}.json").write_text(json.dumps(body))


@pytest.fixture
def full(store, attempt, cell):
    """Every kind of file: a in both generations and collected, b in the newest, c in none."""
    for run_id in ("a", "b"):
        store.commit(attempt(run_id, store.claim(run_id, {"job": "j"})), epochs(run_id))
        store.compact()
    store.gc()
    store.commit(attempt("c", store.claim("c", {"job": "j"}), seed=5), epochs("c"))
    store.claim("open", {"job": "j"})
    store.save_decision("b", 1, {"again": False, "reason": "done"})
    store.save_plan("demo", DIGEST, "text", [cell("a", "lora", "mnist", 0)])
    store.save_plan("demo", DIGEST, "text", [cell("c", "lora", "mnist", 0)])
    write_checkpoint(store, "open", "1.1", b"tensors" * 10)
    write_checkpoint(store, "open", "1.2", b"tensors" * 20)
    return store


def relative(store, problems):
    return [str(problem.path.relative_to(store.path)) for problem in problems]


def tree(store):
    return {p: p.stat().st_mtime_ns for p in store.path.rglob("*") if p.is_file()}


def test_an_undamaged_store_is_clean_and_checking_changes_nothing(full):
    before = tree(full)
    report = check(full.path)
    assert report.damaged == []
    assert report.leftovers == []
    assert report.checked == {
        "store.json": 1,
        "tables": 6,
        "attempts": 2,
        "epochs": 2,
        "claims": 3,
        "decisions": 1,
        "plans": 2,
        "checkpoints": 4,
    }
    assert tree(full) == before
    assert check(Store.open(full.path.parent / "new", create=True).path).damaged == []


# What is damaged, what is named (by its beginning), and the runs that are lost by it.
DAMAGE = [
    ("store.json", ["store.json"], set()),
    ("claims/c.1.json", ["claims/c.1.json"], set()),
    ("claims/open.1.json", ["claims/open.1.json"], set()),
    ("attempts/b.1.parquet", ["attempts/b.1.parquet"], set()),
    ("attempts/c.1.parquet", ["attempts/c.1.parquet"], {"c"}),
    ("epochs/b.1.*", ["epochs/b.1."], set()),
    ("epochs/c.1.*", ["epochs/c.1."], set()),
    ("plans/demo.*.2.parquet", ["plans/demo.01234567.2.parquet"], set()),
    ("decisions/b.1.json", ["decisions/b.1.json"], set()),
    ("tables/gen-1.json", ["tables/gen-1.json"], set()),
    ("tables/gen-2.json", ["tables/gen-2.json"], set()),
    ("tables/attempts-2.*", ["tables/attempts-2.", "tables/gen-2.json"], set()),
    ("tables/epochs-2.*", ["tables/epochs-2.", "tables/gen-2.json"], set()),
    (
        "checkpoints/open/1.2.safetensors",
        ["checkpoints/open/1.2.json", "checkpoints/open/1.2.safetensors"],
        set(),
    ),
    ("checkpoints/open/1.2.json", ["checkpoints/open/1.2.json"], set()),
]


@pytest.mark.parametrize(("pattern", "named", "lost"), DAMAGE, ids=[d[0] for d in DAMAGE])
@pytest.mark.parametrize("fault", ["flipped", "truncated"])
def test_a_damaged_file_is_named_and_repaired_without_losing_it(full, pattern, named, lost, fault):
    before, curves = full.states(), full.epochs()
    (path,) = full.path.glob(pattern)
    if fault == "flipped" and path.suffix != ".json":
        flip(path)
    else:
        path.write_bytes(path.read_bytes()[:-3])
    torn = path.read_bytes()
    report = check(full.path)
    found = sorted(relative(full, report.damaged))
    assert len(found) == len(named)
    assert all(f.startswith(n) for f, n in zip(found, named, strict=True))
    assert all(problem.reason and problem.meaning for problem in report.damaged)

    done = repair(full.path, report)
    assert done.after.damaged == []
    assert (done.generation is not None) is pattern.startswith("tables")
    moved = done.moved[path]
    assert moved == full.path / "quarantine" / path.relative_to(full.path)
    assert moved.read_bytes() == torn
    reason = json.loads(moved.with_name(moved.name + ".reason.json").read_text())
    assert reason["path"] == str(path.relative_to(full.path))
    after = Store.open(full.path)
    assert set(after.states()) == set(before) - lost
    assert len(after.epochs()) == len(curves) - 2 * (
        path.name[:3] == "c.1" and "parquet" in path.name
    )
    assert [p for p, _ in after.bad_files if p.parent.name != "epochs"] == []
    assert check(full.path).damaged == []


def test_a_run_whose_row_was_damaged_is_run_again_as_the_next_attempt(full, attempt):
    flip(full.path / "attempts" / "c.1.parquet")
    repair(full.path, check(full.path))
    store = Store.open(full.path)
    assert "c" not in store.states()
    assert store.open_claims()["c"]["attempt"] == 1, "opened and, as far as is known, not closed"
    assert store.claim("c", {}) == 2
    assert store.commit(attempt("c", 2))
    assert store.states()["c"].attempt == 2


def test_a_damaged_claim_keeps_its_number(full):
    (full.path / "claims" / "open.1.json").write_bytes(b"")
    assert "open" not in full.open_claims()
    repair(full.path, check(full.path))
    claim = Store.open(full.path).open_claims()["open"]
    assert (claim["attempt"], claim["job"], claim["hostname"]) == (1, None, None)
    assert Store.open(full.path).claim("open", {}) == 2


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("epochs/c.1.*", ["epochs/c.1."]),
        ("tables/attempts-2.*", ["tables/gen-2.json"]),
        ("tables/epochs-1.*", ["tables/gen-1.json"]),
        ("checkpoints/open/1.1.safetensors", ["checkpoints/open/1.1.json"]),
        ("store.json", ["store.json"]),
    ],
)
def test_a_missing_file_is_named_where_something_names_it(full, pattern, named):
    (path,) = full.path.glob(pattern)
    path.unlink()
    report = check(full.path)
    found = relative(full, report.damaged)
    assert len(found) == 1
    assert found[0].startswith(named[0])
    assert repair(full.path, report).after.damaged == []
    assert check(full.path).damaged == [], "a loss is told once"
    assert set(Store.open(full.path).states()) == {"a", "b", "c"}


def test_a_missing_folder_is_made_again(full):
    shutil.rmtree(full.path / "epochs")
    report = check(full.path)
    assert str(full.path / "epochs") in {str(problem.path) for problem in report.damaged}
    assert repair(full.path, report).after.damaged == []
    assert set(Store.open(full.path).states()) == {"a", "b", "c"}


def test_much_damage_at_once(full):
    for path in list(full.path.rglob("*")):
        if path.is_file() and path.parent.name in ("attempts", "epochs", "plans", "claims"):
            path.write_bytes(b"")
    (full.path / "tables" / "gen-2.json").write_bytes(b"{}")
    (full.path / "attempts" / "folder").mkdir()
    (full.path / "attempts" / "notes.txt").write_text("mine")
    report = check(full.path)
    done = repair(full.path, report)
    assert done.after.damaged == []
    assert (full.path / "quarantine" / "attempts" / "notes.txt").read_text() == "mine"
    assert (full.path / "quarantine" / "attempts" / "folder").is_dir()
    assert set(Store.open(full.path).states()) == {"a"}, "what generation 1 holds"


def test_quarantine_never_overwrites(full):
    path = full.path / "attempts" / "c.1.parquet"
    for round_ in range(3):
        path.write_text(f"torn {round_}")
        repair(full.path, check(full.path))
    folder = full.path / "quarantine" / "attempts"
    kept = [(folder / f"c.1.parquet{end}").read_text() for end in ("", ".1", ".2")]
    assert kept == ["torn 0", "torn 1", "torn 2"]
    assert (folder / "c.1.parquet.2.reason.json").exists()


def test_a_name_in_quarantine_that_is_taken_without_a_reason_is_left_alone(full):
    folder = full.path / "quarantine" / "attempts"
    folder.mkdir(parents=True)
    (folder / "c.1.parquet").write_text("mine")
    flip(full.path / "attempts" / "c.1.parquet")
    assert repair(full.path, check(full.path)).after.damaged == []
    assert (folder / "c.1.parquet").read_text() == "mine"
    assert (folder / "c.1.parquet.1").exists()


def test_a_repair_that_was_interrupted_is_finished_by_the_next(full, monkeypatch):
    path = full.path / "attempts" / "c.1.parquet"
    flip(path)
    torn = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(files, "remove", lambda path: False)
        assert repair(full.path, check(full.path)).after.damaged, "it is still there"
    assert repair(full.path, check(full.path)).after.damaged == []
    folder = full.path / "quarantine" / "attempts"
    assert (folder / "c.1.parquet").read_bytes() == torn


def age(path, seconds):
    """Make a file older than the newest commit."""
    newest = max(p.stat().st_mtime for p in (path.parents[1] / "attempts").glob("*.parquet"))
    os.utime(path, (newest - seconds, newest - seconds))


def test_leftovers_are_told_from_what_is_being_written_by_their_age(full):
    old = full.path / "attempts" / ".x.1.parquet.0123"
    new = full.path / "claims" / ".x.2.json.0123"
    orphan = full.path / "epochs" / "x.1.abcd.parquet"
    loser = full.path / "epochs" / "c.1.abcd.parquet"
    fresh = full.path / "epochs" / "y.1.abcd.parquet"
    lone = full.path / "checkpoints" / "open" / "1.3.safetensors"
    for path in (old, new, orphan, loser, fresh, lone):
        path.write_bytes(b"half")
    age(old, 3600)
    age(orphan, 3600)
    age(loser, 3600)
    newest = (full.path / "attempts" / "c.1.parquet").stat().st_mtime
    os.utime(lone, (newest - 3600, newest - 3600))
    report = check(full.path)
    assert report.damaged == []
    assert {problem.path for problem in report.leftovers} == {old, orphan, loser, lone}
    done = repair(full.path, report)
    assert done.moved[old].read_bytes() == b"half"
    assert not old.exists()
    assert new.exists()
    assert fresh.exists()
    assert done.after.leftovers == []


def test_a_folder_that_is_no_store_and_a_newer_store_are_refused(tmp_path, full):
    with pytest.raises(StoreError, match="not a peftgrid store"):
        check(tmp_path)
    (full.path / "store.json").write_text('{"peftgrid_store": 99}')
    with pytest.raises(StoreError, match="a newer peftgrid reads it"):
        check(full.path)


def test_a_sealed_file_that_describes_no_tables_is_named(full):
    (full.path / "tables" / "gen-3.json").write_bytes(sealed_json({"number": 3}))
    report = check(full.path)
    assert relative(full, report.damaged) == ["tables/gen-3.json"]
    assert "not a generation" in report.damaged[0].reason
    assert set(full.states()) == {"a", "b", "c"}


def test_a_model_is_held_against_the_digest_in_its_row(store, attempt):
    for number, run_id in enumerate(("good", "flipped", "lost")):
        kept = save_model(store, run_id, 1, bytes([number]) * 64)
        assert store.commit(attempt(run_id, **kept))
        path = store.path / kept["model_file"]
        if run_id == "flipped":
            path.write_bytes(b"\1" * 63 + b"\2")
        elif run_id == "lost":
            path.unlink()
    orphan = store.path / "models" / "none.1.00000000.safetensors"
    orphan.write_bytes(b"")
    os.utime(orphan, (0, 0))
    report = check(store.path)
    assert [p.path.name.split(".")[0] for p in report.damaged] == ["flipped", "lost"]
    assert [p.path for p in report.leftovers] == [orphan]
    assert not repair(store.path, report).after.damaged
    assert (store.path / "quarantine" / "models" / orphan.name).exists()
