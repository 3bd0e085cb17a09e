"""The dispatcher as a plain object: who gets which run, and what is known when a job dies."""

import itertools
from dataclasses import replace

import pytest

from orchestrator.dispatch import MAX_LAUNCHES, Dispatcher, Process, Work
from suites.load import loads
from suites.schema import Resources

TWO_SETS = """
schema: 1
suite: two
backbone: vit_tiny_fashion
methods: [linear]
datasets: [shapes_location, digits]
seeds: 2
"""


@pytest.fixture
def works(make_suite):
    return [Work(cell.spec) for cell in make_suite("d", seeds=2).cells()]


@pytest.fixture
def dispatcher(works):
    dispatcher = Dispatcher()
    dispatcher.add(works)
    launch(dispatcher)
    return dispatcher


pids = itertools.count(1)


def launch(dispatcher, job="a"):
    """A new process of the job begins."""
    return dispatcher.launched(job, Process(next(pids), "1", "node", "host", "actor"))


def take(dispatcher, sequence, job="a", loaded=None):
    """The run that the job gets, begun and finished."""
    work = dispatcher.next(job, sequence, loaded)
    dispatcher.finished(job, work.spec.run_id, "succeeded", {"attempt": 1})
    return work.spec.run_id


def ids(works):
    return [work.spec.run_id for work in works]


def of_kind(dispatcher, kind):
    return [event for event in dispatcher.poll(0).events if event.kind == kind]


def test_every_run_is_handed_out_once_and_in_order(dispatcher, works):
    assert [take(dispatcher, n) for n in range(len(works))] == ids(works)
    assert dispatcher.next("a", len(works), None) == "wait"
    dispatcher.close()
    assert dispatcher.next("a", len(works), None) == "end"


def test_asking_again_for_the_same_number_gives_the_same_run(dispatcher):
    assert dispatcher.next("a", 0, None) == dispatcher.next("a", 0, None)


def test_telling_twice_that_a_run_is_finished_counts_once(dispatcher):
    run_id = dispatcher.next("a", 0, None).spec.run_id
    for _ in range(2):
        dispatcher.finished("a", run_id, "succeeded", {"attempt": 1})
    assert len(of_kind(dispatcher, "finished")) == 1
    assert dispatcher.poll(0).jobs["a"].finished == 1


def test_a_run_that_is_queued_or_in_hand_is_not_queued_again(dispatcher, works):
    first = dispatcher.next("a", 0, None)
    dispatcher.add(works)
    dispatcher.finished("a", first.spec.run_id, "succeeded", {"attempt": 1})
    assert [take(dispatcher, n) for n in range(1, len(works))] == ids(works)[1:]
    dispatcher.close()
    assert dispatcher.next("a", len(works), None) == "end"


def test_what_goes_first_goes_first_and_as_it_is_given_now(dispatcher, works):
    first = dispatcher.next("a", 0, None)
    dispatcher.finished("a", first.spec.run_id, "failed", {"attempt": 1})
    again = Work(first.spec, reason="once more", micro_batch=4)
    dispatcher.add([again], first=True)
    assert dispatcher.next("a", 1, None) == again


def test_a_job_prefers_what_it_has_loaded():
    dispatcher = Dispatcher()
    dispatcher.add([Work(cell.spec) for cell in loads(TWO_SETS).cells()])
    first = dispatcher.next("a", 0, None)
    assert first.spec.dataset == "shapes_location"
    dispatcher.finished("a", first.spec.run_id, "succeeded", {"attempt": 1})
    loaded = ("vit_tiny_fashion", "digits")
    assert dispatcher.next("a", 1, loaded).spec.dataset == "digits"


def test_a_new_process_tells_what_the_one_before_it_had_in_hand(dispatcher):
    run_id = dispatcher.next("a", 0, None).spec.run_id
    dispatcher.progress("a", run_id, 1, 0, 3)
    launch(dispatcher)
    event = of_kind(dispatcher, "launched")[-1]
    assert (event.detail["lost"], event.detail["steps"]) == (run_id, 3)
    assert dispatcher.poll(0).jobs["a"].current is None


def test_a_process_that_tells_twice_that_it_began_loses_nothing(dispatcher):
    process = Process(next(pids), "1", "node", "host", "actor")
    dispatcher.launched("b", process)
    run_id = dispatcher.next("b", 0, None).spec.run_id
    assert dispatcher.launched("b", process)
    assert dispatcher.poll(0).jobs["b"].current == run_id


def test_a_job_that_only_dies_gives_up_and_a_step_clears_the_count(dispatcher):
    answers = [launch(dispatcher) for _ in range(MAX_LAUNCHES)]
    assert answers == [True] * (MAX_LAUNCHES - 1) + [False]
    run_id = dispatcher.next("a", 0, None).spec.run_id
    dispatcher.progress("a", run_id, 1, 0, 3)
    assert all(launch(dispatcher) for _ in range(MAX_LAUNCHES))


def test_a_job_with_runs_of_its_own_ends_after_them_and_leaves_the_queue_alone(dispatcher, works):
    dispatcher.assign("own", works[-1:])
    launch(dispatcher, "own")
    assert take(dispatcher, 0, "own") == works[-1].spec.run_id
    assert dispatcher.next("own", 1, None) == "end"
    assert dispatcher.next("a", 0, None) == works[0]


def test_a_job_whose_own_run_was_lost_ends(dispatcher, works):
    dispatcher.assign("own", works[-1:])
    launch(dispatcher, "own")
    dispatcher.next("own", 0, None)
    launch(dispatcher, "own")
    assert dispatcher.next("own", 0, None) == "end"


def test_a_run_that_another_driver_has_goes_back(dispatcher):
    run_id = dispatcher.next("a", 0, None).spec.run_id
    dispatcher.elsewhere("a", run_id, {"lease": "other.1"})
    (event,) = of_kind(dispatcher, "elsewhere")
    assert (event.run_id, event.detail) == (run_id, {"lease": "other.1"})
    assert dispatcher.poll(0).jobs["a"].current is None


def test_what_a_process_had_whose_node_is_gone_is_lost_at_once(dispatcher):
    run_id = dispatcher.next("a", 0, None).spec.run_id
    dispatcher.progress("a", run_id, 1, 0, 3)
    assert dispatcher.gone("a") == (run_id, 3)
    assert dispatcher.gone("a") == (None, 3)


def test_stop_reaches_a_run_at_its_next_report_and_ends_the_job(dispatcher):
    run_id = dispatcher.next("a", 0, None).spec.run_id
    assert dispatcher.progress("a", run_id, 1, 0, 3) is False
    dispatcher.stop()
    assert dispatcher.progress("a", run_id, 1, 1, 3) is True
    dispatcher.finished("a", run_id, "stopped", {"attempt": 1})
    assert dispatcher.next("a", 1, None) == "end"


def test_a_dispatcher_that_began_anew_learns_from_the_jobs(dispatcher, works):
    run_id = dispatcher.next("a", 0, None).spec.run_id
    new = Dispatcher()
    assert new.poll(0).generation != dispatcher.poll(0).generation
    new.progress("a", run_id, 1, 2, 3)
    new.add(works)
    assert sum(new.poll(0).waiting.values()) == len(works) - 1
    new.finished("a", run_id, "succeeded", {"attempt": 1})
    assert [event.run_id for event in new.poll(0).events if event.kind == "finished"] == [run_id]


def test_events_are_forgotten_once_they_were_heard(dispatcher):
    first = dispatcher.poll(0)
    assert first.total == len(first.events) == 1
    take(dispatcher, 0)
    second = dispatcher.poll(first.total)
    assert [event.kind for event in second.events] == ["started", "finished"]
    assert dispatcher.poll(second.total).events == []


def test_silence_is_measured_while_a_job_has_a_run(dispatcher):
    assert dispatcher.poll(0).silent == {}
    run_id = dispatcher.next("a", 0, None).spec.run_id
    silent = dispatcher.poll(0).silent["a"]
    dispatcher.progress("a", run_id, 1, 0, 3)
    assert 0 <= dispatcher.poll(0).silent["a"] < silent + 1


def test_a_job_gets_runs_of_its_shape_alone_and_makes_room_for_others(works):
    dispatcher, large = Dispatcher(), Resources(workers=2)
    dispatcher.add([replace(works[0], shape=large), *works[1:3]])
    launch(dispatcher)
    assert dispatcher.next("a", 0, None, large).spec == works[0].spec
    dispatcher.finished("a", works[0].spec.run_id, "succeeded", {"attempt": 1})
    assert dispatcher.next("a", 1, None, large) == "end"
    assert dispatcher.poll(0).jobs["a"].dismissed
    assert [take(dispatcher, n, job="b") for n in (0, 1)] == ids(works[1:3])
    assert dispatcher.next("b", 2, None) == "wait"  # nobody else wants its place
