"""Faults of nodes: a cluster of two on this machine, of which one is lost or given notice."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray.cluster_utils
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray._raylet import (
    GCS_AUTOSCALER_CLUSTER_CONFIG_KEY,
    GCS_AUTOSCALER_STATE_NAMESPACE,
    GcsClient,
)
from ray.core.generated import autoscaler_pb2

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


def test_a_range_of_workers_grows_with_the_cluster_and_shrinks_with_it(place, nodes):
    cluster, (_, second) = nodes
    cluster.remove_node(second)
    slow = "{name: slowed, rank: 2, seconds: 0.3}"
    more = "resources: {workers: 2, min_workers: 1}\nretry: {worker_lost: 1, launch: 0, unknown: 0}"
    suite = place.suite("range", [slow], epochs=40, more=more)
    driver = place.start("run", suite, "--address", cluster.address)
    until(checkpoint_of(place, 2))
    joined = cluster.add_node(num_cpus=1, object_store_memory=2**27)
    two = until(lambda: next((c for c in place.claims().values() if c["workers"] == 2), None), 120)
    until(checkpoint_of(place, 20))
    cluster.remove_node(joined, allow_graceful=False)
    assert driver.wait(240) == 0, driver.log.read_text()
    grown, shrunk, done = place.attempts()
    assert two["attempt"] == 2
    assert grown["failure_kind"] == "preempted"
    assert "the job has 2 workers now and had 1" in grown["evidence"]
    # That its node died is seen first where the first worker was on it.
    assert shrunk["failure_kind"] in ("preempted", "worker_lost")
    assert (done["status"], done["adapted"]) == ("succeeded", True)
    assert done["resumed_from_epoch"] >= 20


def declare(cluster, kind, most):
    """Write what an autoscaler would: its limits, or that it is there."""
    config = autoscaler_pb2.ClusterConfig()
    group = config.node_group_configs.add(name="worker", max_count=most)
    for name, amount in kind.items():
        group.resources[name] = amount
    client = GcsClient(address=cluster.address)
    if most:
        client.internal_kv_put(
            GCS_AUTOSCALER_CLUSTER_CONFIG_KEY.encode(),
            config.SerializeToString(),
            True,
            GCS_AUTOSCALER_STATE_NAMESPACE.encode(),
        )
    else:
        cluster.head_node.kill_monitor()  # which would write what is true
        report = {"autoscaler_report": {"active_nodes": {"ray.head.default": 1}}}
        client.internal_kv_put(
            DEBUG_AUTOSCALING_STATUS.encode(),
            json.dumps(report).encode(),
            True,
            None,
        )


def test_more_than_a_cluster_declares_at_most_is_refused(place, nodes):
    cluster, _ = nodes
    declare(cluster, {"CPU": 2}, most=4)
    suite = place.suite("large", ["linear"], more="resources: {cpus: 3}")
    code, said = place.run("run", suite, "--address", cluster.address)
    assert code == 2, said
    assert "allowed: at most" in said
    assert "2 CPUs" in said
    assert place.attempts() == []


@pytest.mark.parametrize("most", [4, 0], ids=["declared", "unknown"])
def test_where_a_cluster_can_grow_a_suite_waits_and_says_so(place, nodes, most):
    cluster, _ = nodes
    declare(cluster, {"CPU": 2}, most)
    suite = place.suite("grows", ["linear"], more="resources: {cpus: 2}")
    driver = place.start("run", suite, "--address", cluster.address, "--max-parallel", 1)
    until(lambda: "waiting for it" in driver.log.read_text())
    assert ("is not known" in driver.log.read_text()) == (most == 0)
    time.sleep(5)
    assert driver.poll() is None
    cluster.add_node(num_cpus=2, object_store_memory=2**27)
    assert driver.wait(120) == 0, driver.log.read_text()
