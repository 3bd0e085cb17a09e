"""When jobs are started: on a single machine the first alone, so that it trains sooner."""

import pytest

from orchestrator.capacity import Capacity
from orchestrator.dispatch import Dispatcher, Process, Work
from orchestrator.staff import Staff


class Jobs:
    """Jobs that live as soon as they are started."""

    def __init__(self):
        self.started = []

    def alive(self):
        return set(self.started)

    def asked(self, shape):
        return shape.of_worker(has_gpus=False)

    def start(self, name, shape, memory_factor):
        self.started.append(name)


class View:
    def note(self, text):
        pass


def staffed(suite, nodes):
    """A staff of a cluster, its jobs, and what asks it to fill."""
    jobs, dispatcher = Jobs(), Dispatcher()
    staff = Staff(
        suite,
        jobs,
        lambda verb, *given, **options: getattr(dispatcher, verb)(*given, **options),
        View(),
        capacity=Capacity(nodes=nodes),
        most=None,
    )
    staff.queue([Work(cell.spec) for cell in suite.cells()])
    return jobs, dispatcher, lambda: staff.fill(dispatcher.poll(0))


@pytest.fixture
def suite(make_suite):
    return make_suite("d", seeds=4)


def test_on_one_machine_the_others_wait_until_the_first_has_a_process(suite):
    jobs, dispatcher, fill = staffed(suite, ({"CPU": 4.0},))
    fill()
    fill()
    assert len(jobs.started) == 1, "two that import at once both train later"
    dispatcher.launched(jobs.started[0], Process(1, "1", "node", "host", "actor"))
    fill()
    assert len(jobs.started) == 4


def test_a_first_job_that_dies_before_it_has_a_process_is_followed_by_another(suite):
    jobs, _, fill = staffed(suite, ({"CPU": 4.0},))
    fill()
    jobs.started.clear()
    fill()
    assert len(jobs.started) == 1


def test_on_several_machines_all_start_at_once(suite):
    jobs, _, fill = staffed(suite, ({"CPU": 2.0}, {"CPU": 2.0}))
    fill()
    assert len(jobs.started) == 4
