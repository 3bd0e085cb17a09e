"""From an exception, or what a lost process wrote and Ray says of it, to the failure kind of a row.

Exceptions of torch and Ray are known by the names of their classes, so that neither is imported here.
Ray's text on a dead actor is evidence and no more: whatever killed the process, it names the
out-of-memory killer and SIGSEGV as possible causes.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator, Sequence

from results.schema import FailureKind

MAX_EVIDENCE = 20_000
"""Characters of evidence that a row keeps."""
MAX_ERROR = 2_000
"""Characters of the error in words."""
STORAGE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}

_OURS: dict[str, FailureKind] = {
    "NonFiniteError": "non_finite",
    "DataError": "data",
    "StoreError": "storage",
    "TimeLimitError": "timeout",
    "Preempted": "preempted",
    "MemoryError": "out_of_memory_host",
}
_RAYS: dict[str, FailureKind] = {
    "PreemptionError": "preempted",
    "OutOfMemoryError": "out_of_memory_host",  # Ray's memory monitor watches the host
    "OutOfDiskError": "storage",
    "WorkerHealthCheckTimeoutError": "stalled",
    "CollectiveTimeoutError": "stalled",
    "NCCLHangError": "stalled",
    "RuntimeEnvSetupError": "launch",
    "ActorUnschedulableError": "launch",
    "TaskUnschedulableError": "launch",
    "WorkerGroupStartupTimeoutError": "launch",
    "WorkerGroupStartupFailedError": "launch",
    "InsufficientClusterResourcesError": "launch",
    "RayActorError": "worker_lost",
    "WorkerCrashedError": "worker_lost",
    "NodeDiedError": "worker_lost",
    "ObjectLostError": "worker_lost",
    "LocalRayletDiedError": "worker_lost",
    "ActorPlacementGroupRemoved": "worker_lost",
}
_INNER = ("cause", "health_check_failure", "controller_failure", "_base_exc")
"""Where Ray and Ray Train keep the exception that they carry."""
_RAYS_MEMORY = re.compile(r"node running low on memory|exit type: NODE_OUT_OF_MEMORY")
_DEVICE_MEMORY = re.compile(r"(CUDA|HIP)( error:)? out of memory|_STATUS_ALLOC_FAILED")
_HOST_MEMORY = re.compile(r"can't allocate memory|not enough memory|Cannot allocate memory")
_DEVICE = re.compile(r"(CUDA|HIP|cuDNN|NCCL)( driver)? error|CU[A-Z]+_STATUS_")
_STALL_DUMP = re.compile(r"^Timeout \(\d+:\d\d:\d\d(\.\d+)?\)!$", re.MULTILINE)
"""What `faulthandler.dump_traceback_later` writes above the stacks."""


class TimeLimitError(Exception):
    """An attempt took longer than `execution.time_limit`."""


def classify(error: BaseException) -> FailureKind:
    """The kind of an error raised by a run or by Ray; what Ray wraps is looked for inside.

    Any device error but out-of-memory is worker_lost: the process cannot use its device again.
    """
    kind: FailureKind = "unknown"
    for each in _chain(_unwrapped(error)):
        kind = _kind(each)
        if kind != "unknown":
            break
    return kind


def describe(error: BaseException) -> tuple[str, str]:
    """The error in words, and its traceback as evidence."""
    evidence = "".join(traceback.format_exception(error))
    return cut(f"{type(error).__name__}: {error}", MAX_ERROR), cut(evidence)


def of_loss(
    log: str | None,
    errors: Sequence[BaseException],
    *,
    began: bool,
    killed: str | None = None,
    workers: tuple[int | None, int | None] = (None, None),
) -> tuple[FailureKind, str]:
    """The kind and the evidence of an attempt whose process ended before it committed.

    `log` is what the process wrote as it ended, `errors` what Ray says of the process and what its
    job ended with; `began` tells whether it had made a step; `killed` why the driver killed it, if it
    did: it may have ended itself in the same moment; `workers` are how many the job had
    and has since, where that is known: if it has others now, the cluster gave or took one.
    """
    evidence = cut("\n\n".join([*([log] if log else ()), *map(str, errors)]))
    if log and _STALL_DUMP.search(log):
        return "stalled", evidence
    if killed:
        return "stalled", killed
    kinds = [classify(error) for error in errors]
    telling = [kind for kind in kinds if kind not in ("worker_lost", "unknown")]
    if None not in workers and workers[0] != workers[1] and not telling:
        said = f"the job has {workers[1]} workers now and had {workers[0]}"
        return "preempted", cut(f"{said}\n\n{evidence}".strip())
    return (telling or ["worker_lost" if began else "launch"])[0], evidence


def cut(text: str, limit: int = MAX_EVIDENCE) -> str:
    """`text` as UTF-8 can hold it, its middle left out, and that said, where it is above `limit`."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= limit:
        return text
    half = (limit - 60) // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n[... {left_out:,} characters left out ...]\n{text[-half:]}"


def _kind(error: BaseException) -> FailureKind:
    """The kind of this exception, whatever it holds or came from."""
    names = [cls.__name__ for cls in type(error).__mro__]
    if any(cls.__module__.partition(".")[0] == "ray" for cls in type(error).__mro__):
        return _of_rays_own(error, names)
    for name in names:
        if name in _OURS:
            return _OURS[name]
    if "OutOfMemoryError" in names:
        return "out_of_memory_device"
    if isinstance(error, OSError):
        if error.errno == errno.ENOMEM:
            return "out_of_memory_host"
        return "storage" if error.errno in STORAGE_ERRNOS else "unknown"
    if isinstance(error, RuntimeError):
        return _of_torch(str(error), names)
    return "user_error" if isinstance(error, ValueError | TypeError) else "unknown"


def _of_rays_own(error: BaseException, names: list[str]) -> FailureKind:
    """The kind of an exception of Ray that carries no other."""
    text = str(error)
    if getattr(error, "preempted", False):
        return "preempted"
    if getattr(error, "actor_init_failed", False) or "The actor never ran" in text:
        return "launch"
    if _RAYS_MEMORY.search(text):
        return "out_of_memory_host"
    return next((_RAYS[name] for name in names if name in _RAYS), "unknown")


def _of_torch(text: str, names: list[str]) -> FailureKind:
    """The kind of a RuntimeError: torch says in the text what happened."""
    if _DEVICE_MEMORY.search(text):
        return "out_of_memory_device"
    if _HOST_MEMORY.search(text):
        return "out_of_memory_host"
    if {"AcceleratorError", "DistError"} & set(names) or _DEVICE.search(text):
        return "worker_lost"
    return "unknown"


def _unwrapped(error: BaseException) -> BaseException:
    """The exception that Ray and Ray Train carry inside `error`, else `error`.

    Of several workers' exceptions the first that says more than that a worker was lost, as the loss of
    one makes the others fail.
    """
    failures = getattr(error, "worker_failures", None)
    if isinstance(failures, dict) and failures and type(error).__name__ != "NCCLHangError":
        inner = [_unwrapped(failures[rank]) for rank in sorted(failures)]
        telling = [each for each in inner if classify(each) not in ("worker_lost", "unknown")]
        return (telling or inner)[0]
    if not type(error).__module__.startswith("ray."):
        return error
    for name in _INNER:
        held = getattr(error, name, None)
        if isinstance(held, BaseException) and held is not error:
            return _unwrapped(held)
    return error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__
