"""Which jobs are started for runs of several shapes: the cluster is filled, and no shape starves."""

import math

import pytest

from orchestrator.capacity import Capacity
from orchestrator.staffing import Demand, to_start

QUARTER = {"CPU": 1.0, "GPU": 0.25}
WHOLE = {"CPU": 1.0, "GPU": 1.0}
FOUR_GPUS = Capacity(nodes=({"CPU": 16.0, "GPU": 4.0},))


def full(**counts):
    return Demand(worker=WHOLE, workers=2, **counts)


def lora(**counts):
    return Demand(worker=QUARTER, **counts)


def test_two_shapes_fill_a_node():
    started = to_start(FOUR_GPUS, {"lora": lora(wanted=400), "full": full(wanted=1)})
    assert started[0] == "full"
    assert (started.count("full"), started.count("lora")) == (1, 8)


def test_places_go_to_the_shape_with_most_runs_for_each_job():
    started = to_start(FOUR_GPUS, {"lora": lora(wanted=1), "full": full(wanted=6)})
    assert sorted(started) == ["full", "lora"]  # what is left of four GPUs takes no second pair
    started = to_start(FOUR_GPUS, {"lora": lora(wanted=300), "full": full(wanted=2)})
    assert (started.count("full"), started.count("lora")) == (1, 8)


def test_no_more_jobs_than_runs():
    assert to_start(FOUR_GPUS, {"lora": lora(wanted=3)}) == ["lora"] * 3
    assert to_start(FOUR_GPUS, {"lora": lora(jobs=3)}) == []


def test_living_jobs_hold_their_places():
    assert to_start(FOUR_GPUS, {"lora": lora(jobs=14, wanted=9)}) == ["lora"] * 2
    assert to_start(FOUR_GPUS, {"lora": lora(jobs=9, wanted=9), "full": full(jobs=1)}) == []


def test_a_shape_that_finds_no_place_keeps_smaller_ones_from_taking_what_becomes_free():
    two = Capacity(nodes=({"CPU": 16.0, "GPU": 2.0},))
    # Seven quarters live and one is free: a new small job would put the large one off for ever.
    assert to_start(two, {"lora": lora(jobs=7, wanted=9), "full": full(wanted=1)}) == []
    assert to_start(two, {"lora": lora(jobs=0, wanted=9), "full": full(wanted=1)}) == ["full"]
    assert to_start(two, {"lora": lora(jobs=7, wanted=9)}) == ["lora"]


def test_what_waits_for_gpus_keeps_no_cpu_node_empty():
    mixed = Capacity(nodes=({"CPU": 4.0}, {"CPU": 4.0, "GPU": 2.0}))
    cpu = Demand(worker={"CPU": 1.0}, wanted=9)
    demands = {"cpu": cpu, "lora": lora(jobs=4), "full": full(wanted=1)}
    assert to_start(mixed, demands) == ["cpu"] * 4


def test_workers_of_one_job_may_be_on_several_nodes():
    three = Capacity(nodes=({"CPU": 1.0},) * 3)
    pair = Demand(worker={"CPU": 1.0}, workers=2, wanted=5)
    assert to_start(three, {"pair": pair}) == ["pair"]
    assert three.parallel({"CPU": 1.0}, None, 2) == 1


@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_number_of_jobs_at_once_counts_all_shapes(most):
    started = to_start(FOUR_GPUS, {"lora": lora(jobs=1, wanted=9), "full": full(wanted=1)}, most)
    assert len(started) == most - 1


def test_one_shape_gets_as_many_jobs_as_ever_fit():
    capacities = (
        Capacity(nodes=({"CPU": 3.0}, {"CPU": 2.0, "GPU": 1.0})),
        Capacity(nodes=({"CPU": 1.0},), declared=(({"CPU": 4.0, "GPU": 2.0}, 3),), grows=True),
        Capacity(nodes=({"CPU": 2.0},), declared=(({"CPU": 2.0}, math.inf),), grows=True),
        Capacity(nodes=({"CPU": 2.0},), grows=True),
        Capacity(nodes=({"CPU": 1.0},), grows=True),
    )
    for capacity in capacities:
        for worker in ({"CPU": 1.0}, {"CPU": 2.0}):
            for most in (None, 1, 4, 50):
                demand = Demand(worker=worker, wanted=1000)
                started = to_start(capacity, {"only": demand}, most)
                assert len(started) == capacity.parallel(worker, most), (capacity, worker, most)


def test_a_job_waits_for_nodes_that_are_gone():
    gone = Capacity(nodes=())
    assert to_start(gone, {"lora": lora(wanted=5)}) == ["lora"]
    assert to_start(gone, {"lora": lora(jobs=1, wanted=5)}) == []
