"""How long runs will take, by what was measured, and in which order they are handed out."""

import json

import pytest

from orchestrator import rows
from orchestrator.capacity import Capacity
from orchestrator.cli.plan_text import duration, expected_words
from orchestrator.dispatch import Dispatcher, Work
from orchestrator.expected import START_SECONDS, History, expected, of_plan
from orchestrator.order import longest_first
from orchestrator.plan import make_plan
from orchestrator.staffing import Demand
from results.store import Store
from suites.load import loads

ONE = Demand(worker={"CPU": 1.0})
TWO_CORES = Capacity(nodes=({"CPU": 2.0},))


@pytest.fixture
def specs(make_suite):
    """linear and lora with seeds 0 and 1, for two epochs each."""
    return [cell.spec for cell in make_suite("e", seeds=2).cells()]


def history(*done):
    made = History()
    for spec, seconds in done:
        made.add(spec.science, seconds)
    return made


def test_the_median_of_the_same_runs_with_other_seeds(specs):
    linear = [spec for spec in specs if spec.method == "linear"]
    made = history((linear[0], 10.0), (linear[0], 12.0), (linear[0], 50.0))
    assert made.seconds(linear[1]) == 12.0


def test_else_by_backbone_and_method_for_each_epoch(specs):
    linear = next(spec for spec in specs if spec.method == "linear")
    made = History()
    made.add({**linear.science, "train": {**linear.train, "epochs": 6}}, 30.0)
    assert made.seconds(linear) == pytest.approx(10.0)  # two epochs instead of six


def test_a_store_gives_its_whole_successful_attempts(specs, tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    columns = (
        {"status": "failed", "failure_kind": "worker_lost", "wall_seconds": 2.0},
        {"status": "succeeded", "wall_seconds": 5.0, "resumed_from_epoch": 1},
        {"status": "succeeded", "wall_seconds": 20.0},
    )
    linear = [s for s in specs if s.method == "linear"]
    lora = next(s for s in specs if s.method == "lora")
    for spec, number, given in zip((lora, lora, linear[0]), (1, 2, 1), columns, strict=True):
        store.claim(spec.run_id, {"attempt": number})
        assert store.commit(rows.attempt(spec, number=number, started_at=None, **given))
    made = History.of(store)
    assert made.seconds(linear[1]) == 20.0
    assert made.seconds(lora) is None


def test_what_no_run_was_like_is_unknown(specs):
    lora = next(spec for spec in specs if spec.method == "lora")
    linear = next(spec for spec in specs if spec.method == "linear")
    assert history((linear, 10.0)).seconds(lora) is None
    assert History.of(None).seconds(lora) is None


def test_unknown_runs_first_and_then_the_longest(specs):
    seconds = (3.0, None, 9.0, None)
    works = [Work(spec, seconds=each) for spec, each in zip(specs, seconds, strict=True)]
    assert longest_first(works) == [works[1], works[3], works[2], works[0]]


def handed(specs, seconds, loaded):
    """Which of the runs the dispatcher hands to a job that has `loaded`."""
    dispatcher = Dispatcher()
    works = [Work(spec, seconds=each) for spec, each in zip(specs, seconds, strict=True)]
    dispatcher.add(works)
    return specs.index(dispatcher.next("a", 0, loaded).spec)


def test_a_load_is_saved_unless_a_run_that_is_far_longer_waits():
    suite = loads(
        "schema: 1\nsuite: two\nbackbone: vit_tiny_fashion\nmethods: [linear]\n"
        "datasets: [shapes_location, digits]\n"
    )
    specs = [cell.spec for cell in suite.cells()]
    loaded = specs[1].backbone, specs[1].dataset
    assert handed(specs, (20.0, 10.0), loaded) == 1
    assert handed(specs, (21.0, 10.0), loaded) == 0
    assert handed(specs, (None, 10.0), loaded) == 0
    assert handed(specs, (None, None), loaded) == 1


def test_list_scheduling_with_the_longest_first():
    runs = [("only", float(seconds)) for seconds in (1, 2, 3, 4, 6)]
    found = expected(TWO_CORES, {"only": ONE}, runs)
    assert found.seconds == START_SECONDS + 8.0  # 6 + 2 beside 4 + 3 + 1
    assert (found.jobs, found.job_start_seconds) == (2, 2 * START_SECONDS)
    alone = expected(TWO_CORES, {"only": ONE}, runs, most=1)
    assert alone.seconds == START_SECONDS + 16.0


def test_a_job_for_every_run_starts_for_every_run():
    runs = [("only", 5.0)] * 4
    found = expected(TWO_CORES, {"only": ONE}, runs, per_job=1)
    assert found.seconds == 2 * (START_SECONDS + 5.0)
    assert found.job_start_seconds == 4 * START_SECONDS


def test_shapes_take_turns_where_both_do_not_fit():
    both = {"large": Demand(worker={"CPU": 1.0}, workers=2), "small": ONE}
    runs = [("large", 10.0), ("small", 7.0), ("small", 5.0)]
    found = expected(TWO_CORES, both, runs)
    assert found.seconds == 2 * START_SECONDS + 10.0 + 7.0


def test_runs_without_a_history_count_as_the_median_and_are_named():
    found = expected(TWO_CORES, {"only": ONE}, [("only", 8.0), ("only", None)])
    assert found.seconds == START_SECONDS + 8.0
    assert "1 of 2 runs have no history" in expected_words(found)
    nobody = expected(TWO_CORES, {"only": ONE}, [("only", None)])
    assert nobody.seconds is None
    assert "nobody knows" in expected_words(nobody)


def test_a_plan_on_a_cluster_that_can_never_run_it_says_so(make_suite):
    suite = make_suite("large", more="resources: {cpus: 4}")
    found = of_plan(suite, make_plan(suite, None), None, TWO_CORES)
    assert found.runs == 2
    assert "4 CPUs, 0 GPUs given for a job" in expected_words(found)


def test_durations_in_words():
    assert [duration(s) for s in (48.2, 750, 11100)] == ["48 s", "12 min 30 s", "3 h 5 min"]


def test_expected_is_in_the_plan_of_a_machine(peftgrid, tmp_path):
    (tmp_path / "s.yaml").write_text(
        "schema: 1\nsuite: s\nbackbone: vit_tiny_fashion\nmethods: [linear]\n"
        "datasets: [{name: shapes_location, train: 48, val: 32, test: 48}]\n"
    )
    code, out, _ = peftgrid("plan", "s.yaml")
    assert code == 0
    assert "expected: no run like these 1 was ever done here" in out
    code, out, _ = peftgrid("plan", "s.yaml", "--json")
    assert json.loads(out)["expected"]["unknown"] == 1
