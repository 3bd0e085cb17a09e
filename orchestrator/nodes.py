"""The nodes of the cluster: which live, what is taken on them, and ends of processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import process
from orchestrator.dispatch import Process

READ_SECONDS = 10.0


def living() -> set[str]:
    """The ids of the nodes that Ray holds for alive."""
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def death(actor: str) -> Exception | None:
    """Why an actor died by what Ray knows, as the exception that a call to it would raise."""
    from ray import exceptions
    from ray._private import state

    found = state.actors(actor)
    if found.get("State") != "DEAD":
        return None
    cause, error = found["DeathCause"], None
    if cause.HasField("oom_context"):
        error = exceptions.OutOfMemoryError(cause.oom_context.error_message)
    elif cause.HasField("actor_died_error_context"):
        error = exceptions.ActorDiedError(cause.actor_died_error_context)
    return error


def free_places() -> None:
    """Take back the room of this driver's jobs whose Train controller died.

    Ray Train has a helper for that, which dies too where Ray's memory monitor ends a whole family.
    """
    import ray
    from ray._private.state import state
    from ray.core.generated import gcs_pb2
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    job = ray.get_runtime_context().get_job_id()
    accessor = state._connect_and_get_accessor()  # noqa: SLF001 - the public table names no creator
    for data in accessor.get_placement_group_table():
        found = gcs_pb2.PlacementGroupTableData.FromString(data)
        removed = found.state == gcs_pb2.PlacementGroupTableData.REMOVED
        if found.creator_job_id.hex() == job and found.creator_actor_dead and not removed:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(found.placement_group_id)))


def read(node: str, path: Path) -> bytes | None:
    """A file of a node; None where there is none, or the node does not answer in time."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    if not ray.is_initialized():
        return None
    try:
        data: bytes = ray.get(_on(node, path.read_bytes).remote(), timeout=READ_SECONDS)
    except (RayError, GetTimeoutError, OSError):
        return None
    return data


def kill(found: Process) -> None:
    """SIGKILL on the process's own node; nothing waits for it."""
    _on(found.node, process.kill).remote(found.pid, found.started)


def _on(node: str, work: Callable[..., Any]) -> Any:
    """`work` as a task of that node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)

    def task(*given: Any) -> Any:
        return work(*given)

    return ray.remote(num_cpus=0, scheduling_strategy=there)(task)
