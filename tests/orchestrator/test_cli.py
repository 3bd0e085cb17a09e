"""The command line as a user meets it: what it prints, what it refuses, and its exit codes."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator import rows
from orchestrator.cli import look
from orchestrator.cli.start import _exit_code
from orchestrator.outcome import Outcome
from orchestrator.plan import make_plan
from results.lease import Lease
from results.store import Store
from suites import catalog
from suites.load import load

GOOD = """
schema: 1
suite: good
backbone: vit_tiny_fashion
methods: [linear, {name: lora, rank: 2}]
datasets: [{name: shapes_location, train: 48, val: 32, test: 48}]
seeds: 2
"""


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


def test_validate_counts_the_runs(peftgrid, good):
    code, out, _ = peftgrid("validate", good)
    assert (code, out) == (0, "good: valid, 4 runs\n")


@pytest.mark.parametrize(
    ("old", "new", "place", "says"),
    [
        ("seeds: 2", "sedes: 2", ":7:1:", "Did you mean 'seeds'"),
        ("lora", "lorra", ":5:26:", "Did you mean 'lora'"),
        ("shapes_location", "shapes_locaton", ":6:19:", "Did you mean 'shapes_location'"),
        ("vit_tiny_fashion", "vit_tiny_fashon", ":4:11:", "Did you mean 'vit_tiny_fashion'"),
        ("rank: 2", "rank: two", ":5:38:", "rank"),
        ("rank: 2", "rank: 0", ":5:38:", "at least 1"),
        ("seeds: 2", "seeds: []", ":7:1:", "empty"),
        ("seeds: 2", "seeds: 2\nseeds: 3", ":8:1:", "seeds"),
        ("seeds: 2", "seeds: 2\nexclude: [{dataset: shapes_location}]", ":", "0 cells"),
        ("seeds: 2", "seeds: 2\nexclude: [{method: full}]", ":8:", "full"),
        ("seeds: 2", "seeds: 2\nresources: {memory: 4}", ":8:21:", "1MiB"),
    ],
)
@pytest.mark.parametrize("command", ["validate", "plan", "run"])
def test_a_mistake_is_named_with_its_place_and_nothing_starts(
    peftgrid, good, tmp_path, command, old, new, place, says
):
    good.write_text(GOOD.lstrip("\n").replace(old, new))
    good.write_text("\n" + good.read_text())
    code, out, err = peftgrid(command, good)
    assert code == 2, err
    assert out == ""
    assert says in err
    assert f"good.yaml{place}" in err
    assert not (tmp_path / "runs").exists()


def test_several_mistakes_are_told_at_once(peftgrid, good):
    good.write_text(GOOD.replace("lora", "lorra").replace("seeds: 2", "sedes: 2"))
    code, _, err = peftgrid("validate", good)
    assert code == 2
    assert "lorra" in err
    assert "sedes" in err


def test_a_suite_that_is_not_there_names_the_shipped_ones(peftgrid):
    code, _, err = peftgrid("plan", "quickstrat")
    assert code == 2
    assert "quickstart" in err


def test_plan_json_holds_what_a_machine_needs(peftgrid, good):
    code, out, _ = peftgrid("plan", good, "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan["suite"] == "good"
    assert plan["counts"] == {"queued": 4}
    keys = {"run_id", "config_id", "backbone", "method", "params", "dataset", "seed", "stage"}
    assert all(keys | {"status", "trainable_params"} <= set(run) for run in plan["runs"])
    # head 16 * 161; lora of rank 2 on fused qkv: 6 blocks * 2 * (160 + 480)
    assert {run["trainable_params"] for run in plan["runs"]} == {2576, 2576 + 7680}


@pytest.mark.parametrize(("targets", "cells"), [("[q, v]", 1), ("[[q, v], [qkv]]", 2)])
def test_a_list_of_targets_is_one_value_and_a_list_of_lists_an_axis(peftgrid, good, targets, cells):
    methods = f"methods: [{{name: lora, targets: {targets}}}]"
    good.write_text(GOOD.replace("methods: [linear, {name: lora, rank: 2}]", methods))
    _, out, _ = peftgrid("plan", good, "--json", "--set", "seeds=1")
    assert len(json.loads(out)["runs"]) == cells


def test_the_published_counts_of_vit_base_come_out_of_plan(peftgrid, good):
    good.write_text(
        """
schema: 1
suite: counts
backbone: vit_base_patch16_224
methods:
  - {name: lora, rank: 8}
  - {name: tucker3, rank: [1, 4, 8]}
  - {name: cp, rank: [1, 4, 8]}
  - ia3
  - {name: vera, rank: 256}
datasets: [digits]
"""
    )
    code, out, err = peftgrid("plan", good, "--json")
    assert code == 0, err
    counts = {run["variant"]: run["trainable_params"] for run in json.loads(out)["runs"]}
    head = 7690
    assert counts == {
        "lora[rank=8]": 294_912 + head,
        "tucker3[rank=1]": 26_170,
        "tucker3[rank=4]": 82_330,
        "tucker3[rank=8]": 161_578,
        "cp[rank=1]": 26_158,
        "cp[rank=4]": 81_562,
        "cp[rank=8]": 155_434,
        "ia3": 55_296 + head,
        "vera[rank=256]": 30_720 + head,
    }


BOUND = """
schema: 1
suite: bound
backbone: vit_base_patch16_224
methods: [{name: adamss, subspaces: 10, subspace_rank: [1, 3]}]
datasets: [digits]
"""


def test_a_count_that_depends_on_the_weights_is_printed_as_a_bound(peftgrid, good):
    good.write_text(BOUND)
    _, out, _ = peftgrid("plan", good)
    assert f"{42_432 + 7690:>12,}\n" in out
    assert f"<= {127_296 + 7690:,}\n" in out
    assert out.count("<=") == 1
    _, out, _ = peftgrid("plan", good, "--json")
    runs = json.loads(out)["runs"]
    assert [(run["trainable_params"], run["count_is_exact"]) for run in runs] == [
        (42_432 + 7690, True),
        (127_296 + 7690, False),
    ]


def test_methods_shows_a_bound_where_the_default_count_is_one(peftgrid, monkeypatch):
    _, out, _ = peftgrid("methods", "--json")
    counts = {row["method"]: row["trains on ViT-B"] for row in json.loads(out)}
    assert counts["adamss"] == "30,432"
    monkeypatch.setattr("adapters.methods.adamss.count_is_exact", lambda config: False)
    _, out, _ = peftgrid("methods", "--json")
    after = {row["method"]: row["trains on ViT-B"] for row in json.loads(out)}
    assert after == counts | {"adamss": "<= 30,432"}


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
def test_a_schedule_behind_the_end_of_a_run_is_refused_before_anything_starts(
    peftgrid, good, tmp_path, command
):
    good.write_text(GOOD.replace("{name: lora, rank: 2}", "{name: adamss, asa: {}}"))
    code, out, err = peftgrid(command, good)
    assert (code, out) == (2, "")
    assert "asa.mask_interval: 100 given for a run of 5 steps" in err
    assert not (tmp_path / "runs").exists()


def test_what_is_not_on_this_machine_is_planned_as_missing_and_refused_by_run(
    peftgrid, good, tmp_path, monkeypatch
):
    monkeypatch.setattr("adapters.backbones._timm._cached", lambda name: None)
    good.write_text(GOOD.replace("vit_tiny_fashion", "vit_tiny_patch16_224.augreg_in21k"))
    code, out, _ = peftgrid("plan", good, "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan["counts"] == {"missing": 4}
    assert all(run["run_id"] and run["trainable_params"] for run in plan["runs"])
    code, _, err = peftgrid("run", good)
    assert code == 2
    assert "peftgrid backbones --fetch vit_tiny_patch16_224.augreg_in21k" in err
    assert not (tmp_path / "runs").exists()


def test_a_store_that_is_a_file_is_refused(peftgrid, good, tmp_path):
    (tmp_path / "runs").write_text("not a folder")
    for command in ("plan", "run"):
        code, _, err = peftgrid(command, good)
        assert code == 2, err
        assert str(tmp_path / "runs") in err


@pytest.mark.parametrize("place", ["below a file", "/proc"])
def test_a_store_that_cannot_be_made_is_refused(peftgrid, good, tmp_path, place):
    """Not even root may make a folder in either place."""
    (tmp_path / "below a file").write_text("")
    store = tmp_path / place / "runs"  # an absolute place stands for itself
    code, _, err = peftgrid("run", good, "--store", store)
    assert code == 2, err
    assert f"{store} given" in err
    assert "allowed: a folder" in err


def test_a_dry_run_starts_nothing(peftgrid, good, tmp_path):
    code, out, _ = peftgrid("run", good, "--dry-run")
    assert code == 0
    assert "4 runs: 4 queued" in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ([], 2),
        (["--unfinished"], 1),
        (["--failed"], 1),
        (["--kinds", "stalled,data"], 1),
        (["--kinds", "stalled"], 0),
    ],
)
def test_resume_takes_up_what_it_is_told_to(peftgrid, good, tmp_path, options, count):
    suite = load(str(good), ["seeds=1"])
    store = Store.open(tmp_path / "runs", create=True)
    first = next(suite.cells()).spec
    number = store.claim(first.run_id, {})
    row = rows.attempt(
        first, number=number, status="failed", failure_kind="data", started_at=datetime.now(UTC)
    )
    store.commit(row)
    code, out, _ = peftgrid("resume", good, "--set", "seeds=1", "--dry-run", *options)
    assert code == 0
    assert out.splitlines()[-1] == f"to start: {count} runs"


def test_resume_refuses_what_is_no_kind_and_what_contradicts_itself(peftgrid, good):
    code, _, err = peftgrid("resume", good, "--kinds", "stalled,boredom", "--dry-run")
    assert code == 2
    assert "'boredom' given, allowed: launch, data" in err
    code, _, err = peftgrid("resume", good, "--unfinished", "--failed", "--dry-run")
    assert code == 2
    assert "allowed: one of them" in err


def test_looking_at_a_store_that_is_not_there_says_how_one_is_made(peftgrid):
    looks = (
        ("status",),
        ("table",),
        ("compare", "a", "b"),
        ("query", "SELECT 1"),
        ("explain", "a"),
    )
    for words in looks:
        code, _, err = peftgrid(*words)
        assert code == 2
        assert "peftgrid run" in err


def test_query_refuses_to_write(peftgrid, tmp_path):
    Store.open(tmp_path / "runs", create=True)
    code, _, err = peftgrid("query", "COPY (SELECT 1) TO 'x.csv'")
    assert code == 2
    assert "SELECT" in err
    assert not (tmp_path / "x.csv").exists()


def test_an_empty_store_answers(peftgrid, tmp_path):
    Store.open(tmp_path / "runs", create=True)
    code, out, _ = peftgrid("query", "SELECT count(*) AS n FROM runs", "--format", "json")
    assert (code, json.loads(out)) == (0, [{"n": 0}])


def test_an_answer_in_parquet_says_what_was_asked_of_which_state(tmp_path, capsysbinary):
    Store.open(tmp_path, create=True)
    look.query("SELECT count(*) AS n FROM runs", tmp_path, look.QueryFormat.parquet)
    answer = pq.read_table(pa.BufferReader(capsysbinary.readouterr().out))
    said = {name.decode(): text.decode() for name, text in answer.schema.metadata.items()}
    assert said["peftgrid.query"] == "SELECT count(*) AS n FROM runs"
    assert said["peftgrid.generation"] == "0"
    assert said["peftgrid.store"] == tmp_path.name


@pytest.mark.parametrize(
    "words", [("methods",), ("datasets",), ("backbones",), ("suites",), ("schema",)]
)
def test_catalogues_are_tables_and_json(peftgrid, words):
    code, out, _ = peftgrid(*words)
    assert code == 0
    assert len(out.splitlines()) > 2
    code, out, _ = peftgrid(*words, "--json")
    assert (code, bool(json.loads(out))) == (0, True)


def test_fetching_a_packaged_backbone_is_refused(peftgrid):
    code, _, err = peftgrid("backbones", "--fetch", "vit_tiny_fashion")
    assert code == 2
    assert "packaged" in err


def test_suites_and_validate_tell_the_runs_of_a_shipped_suite(peftgrid):
    _, out, _ = peftgrid("suites", "--json")
    assert {row["suite"] for row in json.loads(out)} == set(catalog.names())
    _, out, _ = peftgrid("validate", "quickstart_tune", "--json")
    assert json.loads(out) == {"suite": "quickstart_tune", "cells": 28, "final_cells": 42}


def test_the_quickstart_keeps_to_its_budget_of_training_images():
    from suites.load import load

    def images(cell):
        science = cell.spec.science
        return science["dataset"]["config"]["train"] * science["train"]["epochs"]

    cells = list(load("quickstart").cells())
    assert sum(map(images, cells)) <= 40_000
    assert {cell.spec.train["precision"] for cell in cells} == {"fp32"}
    assert {cell.spec.train["select_epoch"] for cell in cells} == {"best_val"}


def test_explain_and_status_read_the_store(peftgrid, good, tmp_path, make_suite):
    from orchestrator.driver import save
    from suites.load import load

    store = Store.open(tmp_path / "runs", create=True)
    suite = load(good)
    plan = make_plan(suite, store)
    save(suite, store, plan)
    code, out, _ = peftgrid("status")
    assert (code, out) == (0, "good: 4 runs: 4 queued\n")
    run_id = plan.runs[0].cell.spec.run_id
    with Lease.take(store, "good", info={}) as lease:
        store.claim(plan.runs[1].cell.spec.run_id, {"lease": lease.name})
        assert peftgrid("status")[1] == "good: 4 runs: 3 queued, 1 running\n"
    assert peftgrid("status")[1] == "good: 4 runs: 4 queued\n", "its driver has ended"
    code, out, _ = peftgrid("explain", run_id[:10])
    assert code == 0
    assert "never attempted" in out
    assert "asked for by: good" in out
    code, _, err = peftgrid("explain", "zzzz")
    assert code == 2
    assert "no run" in err
    code, _, err = peftgrid("status", "bad")
    assert code == 2
    assert "known: good" in err


@pytest.mark.parametrize(
    ("outcome", "counts", "code"),
    [
        (Outcome(), {"succeeded": 2}, 0),
        (Outcome(failed=1), {"succeeded": 1, "failed": 1}, 3),
        (Outcome(), {"failed": 1, "waiting": 2}, 3),
        (Outcome(left=2), {"failed": 1, "queued": 2}, 4),
        (Outcome(left=2), {"stopped": 2}, 4),
        (Outcome(left=2), {"waiting": 2}, 4),
        (Outcome(problem="no job left"), {"succeeded": 1}, 4),
        (Outcome(signal=2, left=1), {"stopped": 1}, 130),
        (Outcome(signal=15, left=1), {"failed": 1}, 143),
    ],
)
def test_the_exit_code_says_how_the_suite_stands(outcome, counts, code):
    assert _exit_code(outcome, SimpleNamespace(counts=lambda: counts)) == code
