"""Faults of nodes: a cluster of two on this machine, of which one is lost or given notice."""

import subprocess
import sys
from pathlib import Path

import pytest
import ray.cluster_utils

from tests.faults.conftest import SLOWED, checkpoint_of, until

pytestmark = pytest.mark.faults
RAY = str(Path(sys.executable).with_name("ray"))


@pytest.fixture
def nodes(monkeypatch, tree):
    """A head with no CPUs, and two nodes of one CPU each, whose workers import from the tree."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(tree))
    cluster = ray.cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 2**27, "include_dashboard": False},
    )
    found = [cluster.add_node(num_cpus=1, object_store_memory=2**27) for _ in range(2)]
    yield cluster, found
    cluster.shutdown()


def test_after_the_loss_of_a_node_the_suite_finishes_on_the_other(place, nodes, undisturbed):
    cluster, found = nodes
    suite = place.suite("lost", [SLOWED], seeds=2, epochs=4)
    driver = place.start("run", suite, "--address", cluster.address)
    claim = until(checkpoint_of(place, 1))
    (gone,) = [node for node in found if node.node_id == claim["node"]]
    cluster.remove_node(gone, allow_graceful=False)
    assert driver.wait(240) == 0, driver.log.read_text()
    assert place.equals(undisturbed)
    ended = place.attempts(run_id=claim["run_id"])
    assert [row["status"] for row in ended] == ["failed", "succeeded"]
    assert ended[0]["failure_kind"] in ("worker_lost", "launch")
    assert ended[1]["node"] != claim["node"]


def test_a_preemption_notice_is_answered_in_time_and_costs_no_budget(place, nodes):
    cluster, _ = nodes
    suite = place.suite(
        "noticed", [SLOWED], epochs=6, more="retry: {worker_lost: 0, launch: 0, unknown: 0}"
    )
    driver = place.start("run", suite, "--address", cluster.address, "--max-parallel", 1)
    claim = until(checkpoint_of(place, 1))
    subprocess.run(
        [
            *(RAY, "drain-node", "--address", cluster.address, "--node-id", claim["node"]),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"),
            *("--deadline-remaining-seconds", "30"),
        ],
        check=True,
        capture_output=True,
    )
    assert driver.wait(180) == 0, driver.log.read_text()
    noticed, done = place.attempts()
    assert (noticed["failure_kind"], done["status"]) == ("preempted", "succeeded")
    assert done["resumed_from_epoch"] >= 1
    assert done["node"] != claim["node"]
