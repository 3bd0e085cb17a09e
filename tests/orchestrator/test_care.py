"""fsck, compact, gc and the decisions in explain, as a user meets them."""

import json

import pytest

from results.record import Attempt, Epoch
from results.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path / "runs", create=True)
    for run_id in ("run1", "run2"):
        n = store.claim(run_id, {})
        row = Attempt(run_id=run_id, attempt=n, status="stopped", spec="{}", variant="lora")
        store.commit(row, [Epoch(run_id=run_id, attempt=n, epoch=1, split="val")])
    return store


def test_fsck_tells_damage_by_its_exit_code_and_repairs_it(peftgrid, store):
    code, out, _ = peftgrid("fsck")
    assert (code, out) == (0, "7 files checked: 0 problems, 0 leftovers\n")
    path = store.path / "attempts" / "run1.1.parquet"
    path.write_bytes(path.read_bytes()[:100])
    code, out, _ = peftgrid("fsck")
    assert code == 7
    assert "attempts/run1.1.parquet: " in out
    assert "the run counts as not done" in out
    assert "1 problems" in out
    code, out, _ = peftgrid("fsck", "--repair")
    assert code == 0
    assert "  now quarantine/attempts/run1.1.parquet\n" in out
    assert peftgrid("fsck")[0] == 0


def test_fsck_for_machines(peftgrid, store):
    (store.path / "claims" / "run1.1.json").write_bytes(b"")
    code, out, _ = peftgrid("fsck", "--json")
    found = json.loads(out)
    assert code == 7
    (problem,) = found["damaged"]
    assert (problem["path"], problem["moved_to"]) == ("claims/run1.1.json", None)
    assert found["still_damaged"] == found["damaged"]
    code, out, _ = peftgrid("fsck", "--json", "--repair")
    found = json.loads(out)
    assert code == 0
    assert found["damaged"][0]["moved_to"] == "quarantine/claims/run1.1.json"
    assert found["still_damaged"] == []
    assert found["checked"]["attempts"] == 2


def test_a_folder_without_a_store_is_a_usage_error(peftgrid):
    code, _, err = peftgrid("fsck")
    assert code == 2
    assert "does not exist" in err


def test_compact_and_gc(peftgrid, store):
    assert peftgrid("compact")[1] == "generation 1 of the tables made\n"
    assert peftgrid("compact")[1] == "nothing to compact\n"
    store.commit(Attempt(run_id="run3", attempt=1, status="stopped"))
    assert peftgrid("compact")[1] == "generation 2 of the tables made\n"
    _, out, _ = peftgrid("gc", "--json")
    assert json.loads(out) == {"attempts": 2, "epochs": 2, "claims": 2, "leases": 0, "tables": 0}
    assert peftgrid("gc")[1].startswith("deleted: 0 attempts, 0 epochs")
    assert set(Store.open(store.path).states()) == {"run1", "run2", "run3"}
