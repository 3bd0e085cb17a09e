"""How the planned runs of a suite stand at this moment, those in the hands of a job included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from results.lease import Observer
from results.store import Store


def running(store: Store) -> set[str]:
    """The runs that a job of a living driver has in hand."""
    claims = store.open_claims()
    leases = {str(claim["lease"]) for claim in claims.values() if claim.get("lease")}
    living = {lease for lease in leases if Observer(store, lease).alive()}
    return {run_id for run_id, claim in claims.items() if claim.get("lease") in living}


def of(run_id: str | None, statuses: Mapping[str, str], in_hand: Collection[str]) -> str:
    """A planned run's status; a final run without an identity waits for its selection."""
    if run_id is None:
        return "waiting"
    if run_id in in_hand:
        return "running"
    return statuses.get(run_id, "queued")


def of_suites(store: Store) -> dict[str, Counter[str]]:
    """How many runs of the latest plan of every suite have each status."""
    runs, in_hand = store.runs(["status"]), running(store)
    columns = (runs.column(name).to_pylist() for name in ("run_id", "status"))
    statuses: dict[str, str] = dict(zip(*columns, strict=True))
    plans = store.plans_table(["run_id"])
    counted: dict[str, Counter[str]] = {}
    for suite, run_id in zip(
        *(plans.column(n).to_pylist() for n in ("suite", "run_id")), strict=True
    ):
        counted.setdefault(suite, Counter())[of(run_id, statuses, in_hand)] += 1
    return counted
