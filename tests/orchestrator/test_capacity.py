"""How many jobs fit: by node, not by sum; on what is there, and on what a cluster may become."""

import math

import pytest

from orchestrator.capacity import Capacity, RequestError

ONE, TWO = {"CPU": 1.0}, {"CPU": 2.0, "GPU": 1.0, "memory": 8e9}


def test_a_job_must_fit_on_one_node():
    capacity = Capacity(nodes=(ONE, ONE))
    assert capacity.parallel({"CPU": 1.0}, None) == 2
    with pytest.raises(
        RequestError, match=r"2 CPUs, 0 GPUs given .* allowed: at most 1 CPUs, 0 GPUs"
    ):
        capacity.parallel({"CPU": 2.0}, None)


@pytest.mark.parametrize(
    ("job", "fit"),
    [
        ({"CPU": 1.0}, 3),
        ({"CPU": 2.0}, 1),
        ({"CPU": 1.0, "GPU": 0.25}, 2),
        ({"CPU": 0.5, "GPU": 0.25}, 4),
        ({"CPU": 1.0, "memory": 5e9}, 1),
    ],
)
def test_every_resource_counts(job, fit):
    assert Capacity(nodes=(ONE, TWO)).parallel(job, None) == fit


def test_what_is_asked_for_at_most_is_a_limit_and_no_promise():
    capacity = Capacity(nodes=(TWO, TWO))
    assert [capacity.parallel({"CPU": 1.0}, most) for most in (1, 3, 9)] == [1, 3, 4]


def test_a_declared_maximum_is_the_limit_of_a_cluster_that_grows():
    growing = Capacity(nodes=(ONE,), declared=((ONE, 1), (TWO, 3)), grows=True)
    assert growing.parallel({"CPU": 1.0}, None) == 7
    assert growing.parallel({"CPU": 2.0}, None) == 3
    assert growing.why_waiting({"CPU": 1.0}) is None
    assert "it may grow to one that has" in growing.why_waiting({"CPU": 2.0})
    assert growing.has_gpus
    with pytest.raises(RequestError, match="3 CPUs, 0 GPUs given"):
        growing.parallel({"CPU": 3.0}, None)
    with pytest.raises(RequestError):
        Capacity(nodes=(), declared=((TWO, 0),), grows=True).parallel({"CPU": 1.0}, None)


def test_without_a_limit_a_cluster_is_filled_as_it_is_unless_told_how_far():
    endless = Capacity(nodes=(TWO,), declared=((TWO, math.inf),), grows=True)
    assert endless.parallel({"CPU": 1.0}, None) == 2
    assert endless.parallel({"CPU": 1.0}, 50) == 50


def test_unknown_capacity_waits_and_says_so():
    unknown = Capacity(nodes=(ONE,), grows=True)
    assert unknown.parallel({"CPU": 4.0}, None) == 1
    assert unknown.parallel({"CPU": 4.0}, 3) == 3
    assert "is not known" in unknown.why_waiting({"CPU": 4.0})


def test_a_job_gets_the_workers_that_find_a_place_within_its_range():
    two = Capacity(nodes=({"CPU": 1.0}, {"CPU": 1.0}))
    assert [
        two.workers_now({"CPU": 1.0}, least, most) for least, most in ((1, 4), (3, 4), (1, 1))
    ] == [2, 3, 1]
