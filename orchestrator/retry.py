"""Whether a run whose job died is tried again: a pure decision with its reason in words."""

from __future__ import annotations

from dataclasses import dataclass

BUDGET = {"worker_lost": 3, "launch": 3}
"""How often a run may lose its job, by what was lost, before that is recorded as its end."""


@dataclass(frozen=True)
class Decision:
    """What happens to a lost run, and why."""

    again: bool
    reason: str


def decide(kind: str, times: int) -> Decision:
    """`times` is how often this driver has seen the run lose its job, this time included."""
    budget = BUDGET[kind]
    if times < budget:
        return Decision(True, f"{kind} {times} of at most {budget} times: tried again")
    return Decision(False, f"{kind} {times} times: the budget of {budget} is spent")
