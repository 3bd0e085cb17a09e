"""The one place that starts Ray: embedded on this machine, or an address that is already running."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.capacity import Capacity

OBJECT_STORE_BYTES = 256 * 2**20
_QUIET = {
    # Train polls its workers this often; its default of 2 s would be felt at every start and end.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # How often Train asks whether a node is about to go; a notice may be short.
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    "RAY_enable_metrics_collection": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

_FORWARDED = (*_QUIET, "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PEFTGRID_DATA", "PEFTGRID_PLUGINS")
"""What workers at an address are to have as this process has it."""


class ClusterError(RuntimeError):
    """Ray cannot be reached."""


@dataclass(frozen=True)
class Cluster:
    """A running Ray, as jobs need to know it."""

    scratch: Path
    """A short-lived folder for Ray Train's own files; no result ever lies in it."""

    def capacity(self) -> Capacity:
        """What it has at this moment, and what it may get."""
        return _capacity()


@contextlib.contextmanager
def running(address: str | None, *, cpus: int | None, threads: int) -> Iterator[Cluster]:
    """Ray, for as long as the context lasts; one that this process already runs is used and left.

    `cpus` limits an embedded Ray; None takes every core this process may use. `threads` is what each
    worker process may use: it has to stand in the environment before torch is loaded there.
    Raises ClusterError where `address` does not answer.
    """
    # A short path: names of sockets below it must not exceed 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    empty = home / "cwd"
    empty.mkdir()
    came_from = Path.cwd()
    environment = _QUIET | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    previous = {name: os.environ.get(name) for name in environment}
    os.environ |= environment  # before Ray is imported: it reads some of them then
    # Workers import by the driver's folder first: a results.py lying there must not be found.
    os.chdir(empty)
    import ray

    owned = not ray.is_initialized()
    try:
        if owned:
            _start(address, cpus or len(os.sched_getaffinity(0)), home)
        yield Cluster(scratch=home)
    finally:
        if owned:
            ray.shutdown()
        os.chdir(came_from)
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(home, ignore_errors=True)


def _start(address: str | None, cpus: int, home: Path) -> None:
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        options |= {
            "address": "local",
            "num_cpus": cpus,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": str(home),
            "include_dashboard": False,
        }
    else:
        # Nodes that run already do not have this process's environment.
        forwarded = {name: os.environ[name] for name in _FORWARDED if name in os.environ}
        options |= {"address": address, "runtime_env": {"env_vars": forwarded}}
    # Train takes seconds to import; they pass while Ray's own processes start.
    importing = threading.Thread(target=importlib.import_module, args=("ray.train.torch",))
    importing.start()
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = "an embedded Ray" if address is None else f"Ray at {address}"
        raise ClusterError(f"{where} did not start or answer: {error}") from error
    finally:
        importing.join()


def _capacity() -> Capacity:
    """The nodes of the Ray that this process is connected to, and those that it may get."""
    import ray
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray._private.state import state
    from ray.experimental import internal_kv

    # Ray has no public name for what an autoscaler declares; Ray Train reads it in the same way.
    config = state.get_cluster_config()
    groups = config.node_group_configs if config else ()
    told = internal_kv._internal_kv_get(DEBUG_AUTOSCALING_STATUS)  # noqa: SLF001 - no other name
    report = (json.loads(told) if told else {}).get("autoscaler_report") or {}
    kinds = {*(report.get("active_nodes") or ()), *(report.get("pending_launches") or ())}
    # Where nodes are started by hand it reports too: each of them as a kind of its own.
    nodes = ray.nodes()
    kinds -= {f"node_{node['NodeID']}" for node in nodes}
    return Capacity(
        nodes=tuple(node["Resources"] for node in nodes if node["Alive"]),
        declared=tuple(
            (dict(group.resources), math.inf if group.max_count < 0 else group.max_count)
            for group in groups
        ),
        grows=bool(groups or kinds),
    )
