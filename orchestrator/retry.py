"""Whether a run whose attempt failed is tried again, how, and why: a pure decision.

It follows from what this driver has seen of the run since it started (so `run` and `resume` give a
fresh budget) and from the suite's `retry` policy, and from nothing else: no clock, no chance.

    kind                          again                                  counted
    preempted                     at once                                not, unless the policy has a number
    worker_lost, launch           after 1, 2, 4 ... at most 60 s         since the last new checkpoint
    storage                       after 1, 2, 4 ... at most 60 s         all
    stalled, timeout              at once                                all
    out_of_memory_device          at once, half the micro-batch          all, with those of the host
    out_of_memory_host            at once, twice the memory, once        all, with those of the device
    unknown                       at once, from the start                all
    data, non_finite, user_error  never

A budget is how often a run is tried again; 0 is never. A loss after a new checkpoint draws on no budget.
What an out-of-memory changed stays for the later attempts. The effective batch never changes, nor
does the run's identity; with another micro-batch the numbers are equal within tolerance only, which
`Decision.adapted` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.schema import FailureKind
from suites.schema import Budget, Retry
from suites.units import shown_bytes

LONGEST_WAIT = 60.0
"""Seconds between two attempts, at most."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One failed attempt of a run."""

    kind: FailureKind
    checkpointed: bool
    """Whether the attempt wrote a checkpoint: it went further than the one before."""
    effective_batch: int
    """Images per optimiser step."""
    micro_batch: int | None = None
    """Images at a time; None: the effective batch at once."""
    memory_bytes: int | None = None
    """What the attempt asked Ray for; None where the suite asks for no amount."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What happens to the run. Without `again` the other settings are those of no attempt."""

    again: bool
    reason: str
    """For people: the kind, its budget, and what is done."""
    resume: bool = False
    """From the newest valid checkpoint where there is one; False: from the start."""
    wait_seconds: float = 0.0
    micro_batch: int | None = None
    """Images at a time in the next attempt; None: the effective batch at once."""
    memory_factor: int = 1
    """The next attempt asks Ray for so many times the memory that the suite gives."""
    adapted: bool = False
    """Whether the next attempt's bits may differ from those of an undisturbed run."""


@dataclass(frozen=True)
class _Rule:
    """How one kind is treated."""

    budget: str
    """The entry of the policy."""
    since_checkpoint: bool = False
    backs_off: bool = False
    resumes: bool = True


_RULES: dict[FailureKind, _Rule] = {
    "preempted": _Rule("preempted"),
    "worker_lost": _Rule("worker_lost", since_checkpoint=True, backs_off=True),
    "launch": _Rule("launch", since_checkpoint=True, backs_off=True),
    "stalled": _Rule("stalled"),
    "timeout": _Rule("timeout"),
    "out_of_memory_device": _Rule("out_of_memory"),
    "out_of_memory_host": _Rule("out_of_memory"),
    "storage": _Rule("storage", backs_off=True),
    # Nothing is known about what such an attempt left behind.
    "unknown": _Rule("unknown", resumes=False),
}
"""Kinds that are not here are final."""


def decide(history: Sequence[Ended], policy: Retry) -> Decision:
    """`history` holds every failed attempt since the driver's start, the newest last; not empty."""
    last = history[-1]
    rule = _RULES.get(last.kind)
    if rule is None:
        return _final(f"{last.kind} has no budget, as the same run would fail again")
    budget: Budget = getattr(policy, rule.budget)
    count = _count(history, rule)
    text = _counted(last.kind, count, budget, rule)
    if budget != "unlimited" and (count > budget or budget == 0):
        return _final(text)
    change = ""
    micro_batch, factor = last.micro_batch, _memory_factor(history)
    if last.kind == "out_of_memory_device":
        before = micro_batch or last.effective_batch
        if before == 1:
            return _final(f"{text}, and the micro-batch is 1")
        micro_batch = before // 2
        change = f" with micro-batch {micro_batch} instead of {before}, effective batch unchanged"
    elif last.kind == "out_of_memory_host":
        if sum(ended.kind == last.kind for ended in history) > 1:
            return _final(f"{text}, but more memory is asked for once only")
        if last.memory_bytes is None:
            change = " unchanged, as resources.memory gives no amount to double"
        else:
            was, now = shown_bytes(last.memory_bytes), shown_bytes(2 * last.memory_bytes)
            change = f" with {now} of memory instead of {was}"
    wait = _wait(count) if rule.backs_off else 0.0
    after = f" after {wait:g} s" if wait else ""
    start = _start(history) if rule.resumes else " from the start"
    return Decision(
        again=True,
        reason=f"{text}: tried again{start}{after}{change}".rstrip(","),
        resume=rule.resumes,
        wait_seconds=wait,
        micro_batch=micro_batch,
        memory_factor=factor,
        adapted=micro_batch not in (None, last.effective_batch),
    )


def _final(why: str) -> Decision:
    return Decision(again=False, reason=f"{why}: not tried again")


def _count(history: Sequence[Ended], rule: _Rule) -> int:
    """How many attempts drew from the budget of `rule`, the newest included if it does."""
    count = 0
    for ended in reversed(history):
        if rule.since_checkpoint and ended.checkpointed:
            break
        other = _RULES.get(ended.kind)
        count += other is not None and other.budget == rule.budget
    return count


def _counted(kind: FailureKind, count: int, budget: Budget, rule: _Rule) -> str:
    """The kind and its budget in words."""
    name = kind if rule.budget == kind else f"{kind} (budget {rule.budget})"
    without = " without a new checkpoint in between" if rule.since_checkpoint else ""
    if budget == "unlimited":
        return f"{name}, retries unlimited"
    if budget == 0:
        return f"{name}, no retries allowed"
    if count == 0:
        return f"{name} after a new checkpoint, not counted (at most {budget}{without})"
    if count > budget:
        return f"{name} {count} times{without}, the budget of {budget} is spent"
    return f"{name} {count} of at most {budget}{without}"


def _start(history: Sequence[Ended]) -> str:
    """What the driver knows of a checkpoint; one of an earlier driver may be there too."""
    seen = any(ended.checkpointed for ended in history)
    return " from its checkpoint" if seen else " from its newest checkpoint, if any,"


def _wait(count: int) -> float:
    """Seconds before the next attempt; `count` is 0 where a checkpoint was just written."""
    return float(min(LONGEST_WAIT, 2 ** min(max(0, count - 1), 10)))


def _memory_factor(history: Sequence[Ended]) -> int:
    """2 once the host's memory ran out, where the suite asks for an amount."""
    short = any(e.kind == "out_of_memory_host" and e.memory_bytes is not None for e in history)
    return 2 if short else 1
