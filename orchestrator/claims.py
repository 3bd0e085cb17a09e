"""Opening an attempt: of all the drivers that share a store, one has a run in hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.store import Latest, Store


def open_attempt(store: Store, run_id: str, info: Mapping[str, Any]) -> int | Latest:
    """Open the run's next attempt: its number, or why not, which is how the latest one stands.

    It is not opened where another driver (`info["lease"]` is ours) has the run in hand, or where
    the run is done. What is true of the latest attempt is still true when the next one is opened,
    because only one process can open it.
    """
    while True:
        latest = store.latest(run_id)
        claim = latest.claim
        if latest.succeeded or (claim is not None and claim.get("lease") != info["lease"]):
            return latest
        if claim is not None and claim.items() >= info.items():
            return latest.number  # opened by a call that then failed
        number = latest.number + 1
        if store.try_claim(run_id, number, info):
            return number
