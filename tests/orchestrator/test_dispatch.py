"""The dispatcher as a plain object: who gets which run, and what is known when a job dies."""

import pytest

from orchestrator import retry
from orchestrator.dispatch import MAX_LAUNCHES, Dispatcher
from suites.load import loads

TWO_SETS = """
schema: 1
suite: two
backbone: vit_tiny_fashion
methods: [linear]
datasets: [shapes_location, digits]
seeds: 2
"""


@pytest.fixture
def specs(make_suite):
    return [cell.spec for cell in make_suite("d", seeds=2).cells()]


@pytest.fixture
def dispatcher(specs):
    dispatcher = Dispatcher()
    dispatcher.add(specs)
    dispatcher.launched("a")
    return dispatcher


def test_every_run_is_handed_out_once_and_in_order(dispatcher, specs):
    got = []
    for sequence in range(len(specs)):
        spec = dispatcher.next("a", sequence, None)
        got.append(spec.run_id)
        dispatcher.finished("a", spec.run_id, "succeeded", {})
    assert got == [spec.run_id for spec in specs]
    assert dispatcher.next("a", len(specs), None) == "wait"
    dispatcher.close()
    assert dispatcher.next("a", len(specs), None) == "end"


def test_asking_again_for_the_same_number_gives_the_same_run(dispatcher):
    assert dispatcher.next("a", 0, None) == dispatcher.next("a", 0, None)


def test_adding_a_run_twice_queues_it_once(dispatcher, specs):
    dispatcher.add(specs)
    dispatcher.close()
    for sequence, spec in enumerate(specs):
        assert dispatcher.next("a", sequence, None).run_id == spec.run_id
        dispatcher.finished("a", spec.run_id, "succeeded", {})
    assert dispatcher.next("a", len(specs), None) == "end"


def test_a_job_prefers_what_it_has_loaded():
    two = loads(TWO_SETS)
    dispatcher = Dispatcher()
    dispatcher.add([cell.spec for cell in two.cells()])
    first = dispatcher.next("a", 0, None)
    assert first.dataset == "shapes_location"
    dispatcher.finished("a", first.run_id, "succeeded", {})
    assert dispatcher.next("a", 1, ("vit_tiny_fashion", "digits")).dataset == "digits"


def test_a_run_in_the_hands_of_a_process_that_died_is_lost_and_can_be_queued_again(dispatcher):
    spec = dispatcher.next("a", 0, None)
    dispatcher.progress("a", spec.run_id, 1, 0, 3)
    dispatcher.launched("a")
    _, _, lost = dispatcher.poll(0)
    assert [(item.run_id, item.kind, item.times) for item in lost] == [
        (spec.run_id, "worker_lost", 1)
    ]
    dispatcher.requeue(lost[0])
    assert dispatcher.next("a", 0, None).run_id == spec.run_id
    assert dispatcher.poll(0)[2] == []


def test_a_run_that_never_stepped_was_lost_at_launch(dispatcher):
    dispatcher.next("a", 0, None)
    dispatcher.launched("a")
    assert dispatcher.poll(0)[2][0].kind == "launch"


def test_a_job_that_only_dies_is_given_up(dispatcher):
    answers = [dispatcher.launched("a") for _ in range(MAX_LAUNCHES)]
    assert answers == [True] * (MAX_LAUNCHES - 1) + [False]


def test_a_finished_run_clears_the_count_of_launches(dispatcher):
    dispatcher.launched("a")
    spec = dispatcher.next("a", 0, None)
    dispatcher.finished("a", spec.run_id, "succeeded", {})
    assert all(dispatcher.launched("a") for _ in range(MAX_LAUNCHES))


def test_a_job_with_runs_of_its_own_ends_after_them_and_leaves_the_queue_alone(dispatcher, specs):
    own = specs[-1]
    dispatcher.assign("own", [own])
    dispatcher.launched("own")
    assert dispatcher.next("own", 0, None).run_id == own.run_id
    dispatcher.launched("own")  # its process died
    (lost,) = dispatcher.poll(0)[2]
    assert dispatcher.next("own", 0, None) == "wait"  # the driver has not decided yet
    dispatcher.requeue(lost)
    assert dispatcher.next("own", 0, None).run_id == own.run_id
    dispatcher.finished("own", own.run_id, "succeeded", {})
    assert dispatcher.next("own", 1, None) == "end"
    assert dispatcher.next("a", 0, None).run_id == specs[0].run_id


def test_stop_reaches_a_run_at_its_next_report_and_ends_the_job(dispatcher):
    spec = dispatcher.next("a", 0, None)
    assert dispatcher.progress("a", spec.run_id, 1, 0, 3) is False
    dispatcher.stop()
    assert dispatcher.progress("a", spec.run_id, 1, 1, 3) is True
    dispatcher.finished("a", spec.run_id, "stopped", {})
    assert dispatcher.next("a", 1, None) == "end"


def test_the_decision_to_try_again_is_a_function_of_kind_and_count_with_its_reason():
    assert [retry.decide("worker_lost", n).again for n in (1, 2, 3)] == [True, True, False]
    assert "budget of 3 is spent" in retry.decide("launch", 3).reason
