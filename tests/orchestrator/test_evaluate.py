"""Trained runs on further sets: what is scored, what is kept, and that nothing is done twice."""

import json

import pytest
import torch
from PIL import Image

from adapters import registry
from adapters.data import imagenet
from orchestrator import evaluate as evaluation
from orchestrator.driver import save
from orchestrator.plan import make_plan
from results.query import query
from results.store import Store
from suites.document import SuiteError
from suites.load import loads
from suites.sets import EvaluationSet, read_sets
from tests.untrained import commit_untrained

SUITE = """
schema: 1
suite: moved
backbone: vit_tiny_fashion
methods: [linear, {name: lora, rank: 2}, {name: vpt_deep, prompts: 2}]
datasets: [{name: shapes_location, train: 32, val: 16, test: 32}]
seeds: 1
train: {epochs: 1, head_init: class_means}
"""


def moved(adapted):
    generator = torch.Generator().manual_seed(0)
    for parameter in adapted.trainable_parameters.values():
        parameter += 0.02 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture
def store(tmp_path):
    """A finished suite whose runs have models; nothing was trained for it."""
    store = Store.open(tmp_path / "runs", create=True)
    suite = loads(SUITE)
    save(suite, store, make_plan(suite, store))
    for cell in suite.cells():
        commit_untrained(store, cell.spec, change=moved)
    return store


def rows(store, sql="SELECT * FROM evaluations"):
    return query(store, sql).to_pylist(maps_as_pydicts="strict")


def test_a_row_for_each_run_set_and_alpha_and_no_attempt(store, peftgrid):
    attempts = len(store.attempts())
    words = ("evaluate", "moved", "--on", "own", "--on", "own+jpeg:2", "--zero-shot")
    code, out, err = peftgrid(*words, "--json")
    assert code == 0, err
    assert json.loads(out) == {"runs": 3, "made": 12, "known": 0, "left_out": {}}
    found = rows(store)
    assert {(r["mode"], r["alpha"]) for r in found} == {("trained", 1.0), ("zero_shot", 0.0)}
    own = "shapes_location[train=32,val=16,test=32]"
    assert {r["set"] for r in found} == {own, f"{own}+jpeg:2"}
    assert {(r["corruption"], r["severity"]) for r in found} == {(None, None), ("jpeg", 2)}
    assert all(r["images"] == 32 and r["top1"] == r["metrics"]["top1"] for r in found)
    assert all(r["set_digest"] and r["model_digest"] and r["created_at"] for r in found)
    assert len(store.attempts()) == attempts

    code, out, _ = peftgrid(*words, "--on", "own+contrast", "--json")
    assert (code, json.loads(out)["made"], json.loads(out)["known"]) == (0, 30, 12)


def test_a_path_ends_at_the_rows_of_zero_shot_and_trained(store, peftgrid):
    code, out, _ = peftgrid("evaluate", "moved", "--wise", "all", "--alphas", "3", "--zero-shot")
    assert code == 3
    assert "left out: " in out
    assert "vpt_deep: neither merges nor has an output that could be scaled" in out
    by_point = {(r["run_id"], r["mode"], r["alpha"]): r["loss"] for r in rows(store)}
    runs = {run for run, _, _ in by_point}
    assert len(runs) == 2
    for run in runs:
        assert by_point[run, "all", 0.0] == by_point[run, "zero_shot", 0.0]
        assert by_point[run, "all", 1.0] == by_point[run, "trained", 1.0]
        assert by_point[run, "all", 0.5] not in (
            by_point[run, "all", 0.0],
            by_point[run, "all", 1.0],
        )


def test_another_data_set_and_the_head_alone(store, peftgrid):
    code, out, err = peftgrid(
        *("evaluate", "moved", "--on", "{name: shapes_count, test: 24}", "--wise", "head"),
        *("--alphas", "2"),
    )
    assert code == 0, err
    assert "3 runs scored; 9 rows made" in out
    assert {r["set"] for r in rows(store)} == {"shapes_count[test=24]"}


def test_a_set_with_too_many_classes_leaves_the_run_out(tmp_path, peftgrid):
    store = Store.open(tmp_path / "runs", create=True)
    suite = loads(SUITE.replace("shapes_location", "shapes_count"))
    save(suite, store, make_plan(suite, store))
    for cell in suite.cells():
        commit_untrained(store, cell.spec)
    code, out, _ = peftgrid("evaluate", "moved", "--on", "{name: shapes_location, test: 24}")
    assert code == 3
    assert out.count("tells 6 classes apart") == 3
    assert rows(store) == []


def test_runs_without_a_model_or_an_end_are_named(tmp_path, peftgrid):
    store = Store.open(tmp_path / "runs", create=True)
    suite = loads(SUITE)
    save(suite, store, make_plan(suite, store))
    first, second, _ = suite.cells()
    commit_untrained(store, first.spec)
    adapted_file = next((store.path / "models").iterdir())
    adapted_file.unlink()
    code, out, _ = peftgrid("evaluate", "moved")
    assert code == 3
    assert f"left out: {second.spec.run_id}: has not run yet" in out
    assert f"left out: {first.spec.run_id}: {adapted_file}: cannot be read" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nope",), "suite: 'nope' given, allowed: moved"),
        (("moved", "--on", "mnst"), "--on:1:1: unknown data 'mnst'. Did you mean 'mnist'?"),
        (("moved", "--on", "own+fog"), "corruption 'fog' given, allowed: gaussian_noise"),
        (("moved", "--on", "own+jpeg:7"), "severity 7 given, allowed: 1, 2, 3, 4, 5"),
        (("moved", "--on", "{name: mnist, tst: 3}"), "tst"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_scored(store, peftgrid, words, said):
    code, _, err = peftgrid("evaluate", *words)
    assert code == 2
    assert said in err
    assert rows(store) == []


def test_sets_are_read_once_each_and_all_severities_without_one():
    assert read_sets(["own", "own"]) == [EvaluationSet(None)]
    assert [each.severity for each in read_sets(["own+jpeg"])] == [1, 2, 3, 4, 5]
    (one,) = read_sets(["{name: mnist, test: 200}+shot_noise:4"])
    assert (one.part.name, one.part.config.test, one.corruption, one.severity) == (
        *("mnist", 200, "shot_noise", 4),
    )
    with pytest.raises(SuiteError) as caught:
        read_sets(["nope", "own+fog:9"])
    assert len(caught.value.problems) == 3


def test_a_path_has_both_its_ends():
    assert [p.alpha for p in evaluation.points("all", 11)] == [n / 10 for n in range(11)]
    assert evaluation.points("trained", 11) == [("trained", 1.0)]


@pytest.fixture
def shifted(monkeypatch, tmp_path):
    """`imagenet/a` of three images that are the classes 1, 4 and 4 of models of 6 classes."""
    folder = tmp_path / "data" / "imagenet"
    small = imagenet.Shifted(folder="imagenet-a", images=3, subset=(1, 4))
    monkeypatch.setenv("PEFTGRID_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PEFTGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(imagenet.SHIFTED, "a", small)
    monkeypatch.setattr(imagenet, "CLASSES", 6)
    (folder / "imagenet-a").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (40, 30), (80 * number, 0, 0)).save(folder / f"imagenet-a/{number}.png")
    lines = [f"imagenet-a/{number}.png {label}\n" for number, label in enumerate((0, 1, 1))]
    (folder / "imagenet-a" / "val_meta.list").write_text("".join(lines))
    registry.dataset.cache_clear()
    yield
    registry.dataset.cache_clear()


def finished(tmp_path, dataset, change):
    store = Store.open(tmp_path / "runs", create=True)
    text = SUITE.replace("shapes_location", dataset)
    suite = loads(text, overrides=["methods=[linear]"])
    save(suite, store, make_plan(suite, store))
    for cell in suite.cells():
        commit_untrained(store, cell.spec, change=change)
    return store


def prefers_four(adapted):
    """Output 0 is the largest, which the set does not have; then output 4."""
    bias = adapted.head_parameters["head.bias"]
    bias.copy_(torch.tensor([2e3, 0.0, 0.0, 0.0, 1e3, 0.0]))


@pytest.mark.usefixtures("shifted")
def test_a_set_for_evaluation_only_is_scored_among_its_own_classes(tmp_path, peftgrid):
    store = finished(tmp_path, "shapes_count", prefers_four)
    code, _, err = peftgrid("evaluate", "moved", "--on", "imagenet/a", "--on", "imagenet/a+jpeg:1")
    assert code == 0, err
    plain, corrupted = sorted(rows(store), key=lambda row: row["set"])
    assert (plain["set"], corrupted["set"]) == ("imagenet/a", "imagenet/a+jpeg:1")
    assert (plain["images"], plain["own"], plain["top1"]) == (3, False, pytest.approx(2 / 3))
    assert corrupted["top1"] == plain["top1"]
    assert plain["set_digest"] == corrupted["set_digest"]


@pytest.mark.usefixtures("shifted")
def test_a_run_of_other_classes_is_left_out_by_name_and_keeps_its_other_rows(tmp_path, peftgrid):
    store = finished(tmp_path, "shapes_location", None)
    code, out, _ = peftgrid("evaluate", "moved", "--on", "imagenet/a", "--on", "own")
    assert code == 3
    assert "set imagenet/a: for models of 6 classes, but the run on shapes_location tells" in out
    assert [row["own"] for row in rows(store)] == [True]


@pytest.mark.usefixtures("shifted")
def test_absent_images_of_a_set_for_evaluation_only_are_named(tmp_path, peftgrid):
    finished(tmp_path, "shapes_count", None)
    (tmp_path / "data/imagenet/imagenet-a/1.png").unlink()
    code, out, _ = peftgrid("evaluate", "moved", "--on", "imagenet/a")
    assert code == 3
    assert "data set imagenet/a: " in out
    assert "1.png" in out
