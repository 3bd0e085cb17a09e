"""The nodes of the cluster: which live, and ending a process on one of them."""

from __future__ import annotations

from orchestrator import process
from orchestrator.dispatch import Process


def living() -> set[str]:
    """The ids of the nodes that Ray holds for alive."""
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def kill(found: Process) -> None:
    """SIGKILL on the process's own node; nothing waits for it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id=found.node, soft=False)
    task = ray.remote(num_cpus=0, scheduling_strategy=there)(process.kill)
    task.remote(found.pid, found.started)
