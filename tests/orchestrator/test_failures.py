"""What a failure is called: real exceptions, real ends of processes, and what Ray says of its actors.

The texts of Ray are those of Ray 2.60 for real actors that were killed, crashed or put out by its
memory monitor.
"""

import errno
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from ray import exceptions as rays
from ray.core.generated.common_pb2 import ActorDiedErrorContext, NodeDeathInfo
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerGroupStartupFailedError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2.api.exceptions import ControllerError, PreemptionError
from ray.train.v2.api.preemption import PreemptionInfo

from adapters.errors import DataError, NonFiniteError
from orchestrator.failures import (
    TimeLimitError,
    classify,
    of_loss,
)
from results.errors import StoreError
from results.schema import FAILURE_KINDS

ANY_DEATH = (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker "
    "exit detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common "
    "causes include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray "
    "stop --force was called, or (3) the worker crashed unexpectedly due to SIGSEGV or another "
    "unexpected error."
)
MONITOR = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: "
    "10.0.0.1, ID: 789e) was 1.99GB used / 23.54GB limit (0.084489)"
)


def died(text=ANY_DEATH, *, node=None, never_started=False):
    """An actor's death as Ray makes it."""
    cause = ActorDiedErrorContext(
        error_message=text,
        class_name="RayTrainWorker",
        actor_id=bytes(16),
        pid=7292,
        never_started=never_started,
    )
    if node is not None:
        cause.node_death_info.reason = node
    return rays.ActorDiedError(cause)


def raised_in_task(error):
    """What `ray.get` raises for a task that raised `error`."""
    text = f"Traceback (most recent call last):\n{type(error).__name__}: {error}"
    return rays.RayTaskError("f", text, error, "ray::f", 1, "10.0.0.1").as_instanceof_cause()


def of_torch_on_the_host():
    torch.empty(2**46)


def of_numpy():
    np.empty(2**60, np.uint8)


@pytest.mark.parametrize("allocate", [of_torch_on_the_host, of_numpy])
def test_an_allocation_that_the_host_refuses(allocate):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert classify(caught.value) == "out_of_memory_host"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NonFiniteError("loss inf at epoch 1, step 3"), "non_finite"),
        (DataError("another digest"), "data"),
        (StoreError("disk full"), "storage"),
        (OSError(errno.ENOSPC, "No space left on device"), "storage"),
        (OSError(errno.ESTALE, "Stale file handle"), "storage"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory_host"),
        (OSError(errno.ENOENT, "No such file"), "unknown"),
        (MemoryError(), "out_of_memory_host"),
        (TimeLimitError("after 1800 s"), "timeout"),
        (ValueError("rank: 0 given"), "user_error"),
        (TypeError("no"), "user_error"),
        (RuntimeError("no"), "unknown"),
        (KeyError("no"), "unknown"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB"), "out_of_memory_device"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), "out_of_memory_device"),
        (torch.OutOfMemoryError("Allocation on device 0 would exceed it."), "out_of_memory_device"),
        (torch.AcceleratorError("CUDA error: out of memory"), "out_of_memory_device"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "out_of_memory_device",
        ),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), "worker_lost"),
        (RuntimeError("CUDA error: device-side assert triggered"), "worker_lost"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "worker_lost"),
        (torch.distributed.DistBackendError("NCCL communicator was aborted"), "worker_lost"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{type(value).__name__}({value})"[:50],
)  # fmt: skip
def test_what_a_run_raises(error, kind):
    assert classify(error) == kind
    assert classify(raised_in_task(error)) == kind, "also where Ray carries it"


def test_what_an_error_was_raised_from_tells_where_it_says_nothing_itself():
    inner = torch.OutOfMemoryError("CUDA out of memory.")
    outer = RuntimeError("the compiler failed")
    outer.__cause__ = inner
    assert classify(outer) == "out_of_memory_device"
    wrong = ValueError("lr: no")
    wrong.__cause__ = inner
    assert classify(wrong) == "user_error"


def test_errors_that_were_raised_from_each_other_end():
    one, two = RuntimeError("one"), RuntimeError("two")
    one.__cause__, two.__cause__ = two, one
    assert classify(one) == "unknown"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (died(), "worker_lost"),
        (died("The actor is dead because it was killed by `ray.kill`."), "worker_lost"),
        (died("The actor died because its node has died."), "worker_lost"),
        (died(node=NodeDeathInfo.UNEXPECTED_TERMINATION), "worker_lost"),
        (died(node=NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED), "preempted"),
        (died(MONITOR), "out_of_memory_host"),
        (died("", never_started=True), "launch"),
        (rays.ActorDiedError(), "worker_lost"),
        (rays.ActorDiedError(rays.RayTaskError("f", "t", ValueError("bad"), "p", 1, "ip")), "launch"),
        (rays.ActorUnavailableError("rpc failed", bytes(16)), "worker_lost"),
        (rays.OutOfMemoryError(MONITOR), "out_of_memory_host"),
        (rays.NodeDiedError("the node is dead"), "worker_lost"),
        (rays.WorkerCrashedError(), "worker_lost"),
        (rays.OwnerDiedError("00", None, ""), "worker_lost"),
        (rays.OutOfDiskError("full"), "storage"),
        (rays.RuntimeEnvSetupError("no such package"), "launch"),
        (rays.ActorUnschedulableError("no node"), "launch"),
        (rays.GetTimeoutError("late"), "unknown"),
        (WorkerGroupStartupFailedError("died"), "launch"),
        (WorkerHealthCheckTimeoutError("no answer"), "stalled"),
        (WorkerHealthCheckFailedError("a poll failed", failure=died()), "worker_lost"),
        (WorkerHealthCheckFailedError("x", failure=rays.OutOfMemoryError(MONITOR)), "out_of_memory_host"),
        (ControllerError(WorkerGroupStartupFailedError("died")), "launch"),
        (PreemptionError(PreemptionInfo(None, {"node": [0]})), "preempted"),
        (UserExceptionWithTraceback(NonFiniteError("inf"), "Traceback ..."), "non_finite"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_what_ray_raises(error, kind):
    assert classify(error) == kind
    assert kind in FAILURE_KINDS


def test_the_causes_that_ray_only_guesses_at_are_evidence_and_no_kind():
    kind, evidence = of_loss(None, [died()], began=True)
    assert kind == "worker_lost"
    assert "killed by the OOM killer" in evidence
    assert "SIGSEGV" in evidence
    assert "pid: 7292" in evidence


def test_one_worker_s_failure_is_that_of_its_group():
    group = WorkerGroupError("rank 0 failed", {0: torch.OutOfMemoryError("CUDA out of memory.")})
    assert classify(group) == "out_of_memory_device"


def test_of_several_workers_the_one_that_others_died_of_tells():
    failures = {
        0: torch.distributed.DistBackendError("connection closed by peer"),
        1: WorkerHealthCheckFailedError("poll failed", failure=rays.OutOfMemoryError(MONITOR)),
        2: WorkerHealthCheckFailedError("poll failed", failure=died()),
    }
    assert classify(WorkerGroupError("3 workers failed", failures)) == "out_of_memory_host"


def ends(code):
    """Run Python code in a process of its own: (return code, standard error)."""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr


def test_a_process_that_crashed_is_lost_and_what_it_wrote_is_evidence():
    code, log = ends("import ctypes, faulthandler; faulthandler.enable(); ctypes.string_at(0)")
    assert code == -signal.SIGSEGV
    kind, evidence = of_loss(log, [died()], began=True)
    assert kind == "worker_lost"
    assert "Segmentation fault" in evidence
    assert "pid: 7292" in evidence


def test_a_process_that_made_no_step_was_not_launched():
    assert of_loss(None, [], began=False) == ("launch", "")
    assert of_loss(None, [died()], began=False)[0] == "launch"


def test_a_process_that_another_number_of_workers_came_after_was_taken_away():
    kind, evidence = of_loss(None, [died()], began=True, workers=(1, 2))
    assert kind == "preempted"
    assert evidence.startswith("the job has 2 workers now and had 1\n")
    assert of_loss(None, [died()], began=True, workers=(2, 2))[0] == "worker_lost"
    assert of_loss(None, [died()], began=True, workers=(2, None))[0] == "worker_lost"
    assert of_loss(None, [rays.OutOfMemoryError(MONITOR)], began=True, workers=(1, 2))[0] == (
        "out_of_memory_host"
    )


def test_a_process_that_ray_killed_for_memory():
    kind, evidence = of_loss(None, [rays.OutOfMemoryError(MONITOR)], began=True)
    assert kind == "out_of_memory_host"
    assert "1.99GB used / 23.54GB limit" in evidence


def test_what_its_job_ended_with_tells_where_ray_says_nothing_of_the_process():
    error = ControllerError(WorkerGroupStartupFailedError("died"))
    assert of_loss(None, [died(), error], began=True)[0] == "launch"


def test_a_process_that_ended_itself_as_it_stalled_has_its_stacks_as_evidence():
    _, log = ends(
        "import faulthandler, time\n"
        "faulthandler.dump_traceback_later(0.1, exit=True)\n"
        "time.sleep(30)"
    )
    kind, evidence = of_loss(f"epoch 1\n{log}", [died()], began=True)
    assert kind == "stalled"
    assert "most recent call first" in evidence
    both = of_loss(f"epoch 1\n{log}", [died()], began=True, killed="silent for 6 s")
    assert both == (kind, evidence), "killed in the same moment: its own words tell more"


def test_a_process_that_was_killed_because_it_was_silent_is_stalled():
    assert of_loss(None, [died()], began=True, killed="silent for 6 s") == (
        "stalled",
        "silent for 6 s",
    )


def test_a_log_that_speaks_of_timeouts_is_no_stall():
    assert (
        of_loss("Timeout (0:00:05)! is what a dump begins with", [], began=True)[0] == "worker_lost"
    )
