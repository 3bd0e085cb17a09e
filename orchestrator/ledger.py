"""What becomes of runs whose attempt ended badly: rows for the lost, decisions for all, by the store.

Which attempt is open, whose it is and whether it wrote a checkpoint is read from the store and not
from the dispatcher, which may have died too.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from orchestrator import retry, rows
from orchestrator.dispatch import Work
from orchestrator.patience import patiently
from results.place import Place
from results.schema import FailureKind
from results.store import Store, StoreError
from suites.schema import Retry
from suites.spec import RunSpec

T = TypeVar("T")


@dataclass
class Ledger:
    """The attempts of one drive that did not succeed."""

    store: Store
    policy: Retry
    lease: str
    """What the claims of this drive's jobs carry."""
    tell: Callable[[str], object]
    """Hears what the storage makes it wait for."""
    give_up: Callable[[], bool] = lambda: False
    """Whether waiting for the storage has no sense any more."""
    fetch: Callable[[str, Path], bytes | None] = lambda *_: None
    """Reads a file of a node; None where it cannot."""
    _history: dict[str, list[retry.Ended]] = field(default_factory=dict)

    def ended(
        self, work: Work, attempt: int, kind: FailureKind
    ) -> tuple[retry.Decision, Work | None]:
        """Decide about an attempt at `work` that failed; what to hand out where it is tried again."""
        spec, memory = work.spec, work.shape.memory_bytes
        batch = int(spec.train["batch_size"])
        ended = retry.Ended(
            kind=kind,
            checkpointed=self._checkpointed(spec.run_id, attempt),
            micro_batch=work.micro_batch,
            effective_batch=batch,
            memory_bytes=memory and memory * work.memory_factor,
        )
        history = self._history.setdefault(spec.run_id, [])
        history.append(ended)
        decision = retry.decide(tuple(history), self.policy)
        kept = {"again": decision.again, "reason": decision.reason}
        self._patiently(lambda: self.store.save_decision(spec.run_id, attempt, kept))
        if not decision.again:
            return decision, None
        again = replace(
            work,
            reason=decision.reason,
            micro_batch=decision.micro_batch,
            restart=not decision.resume,
            memory_factor=decision.memory_factor,
        )
        return decision, again

    def close(
        self,
        spec: RunSpec,
        claim: Mapping[str, Any],
        status: str,
        *,
        kind: str | None = None,
        error: str | None = None,
        evidence: str | None = None,
    ) -> bool:
        """Commit a row for an attempt that was opened and not closed. False: it is closed by now."""
        row = rows.attempt(
            spec,
            number=int(claim["attempt"]),
            status=status,
            failure_kind=kind,
            error=error,
            evidence=evidence or self.log(claim),
            started_at=None,
            job=claim.get("job"),
            hostname=claim.get("hostname"),
        )
        return self._patiently(lambda: self.store.commit(row))

    def open(self, run_id: str) -> dict[str, Any] | None:
        """The latest claim of a run whose attempt is not closed."""
        return self.store.open_claims().get(run_id)

    def compact(self) -> None:
        """Make the tables anew where that is due; where it cannot be, the small files are read."""
        try:
            self.store.compact_when_due()
        except StoreError as error:
            self.tell(f"the tables were not compacted: {error}")

    def is_ours(self, claim: Mapping[str, Any]) -> bool:
        """Whether a job of this drive opened the attempt."""
        return claim.get("lease") == self.lease

    def log(self, claim: Mapping[str, Any]) -> str | None:
        """What the process of a claim wrote as it ended: Python's own dump at a stall or a crash."""
        kept = log_path(self.store, claim["run_id"], int(claim["attempt"]))
        try:
            there = local_log(kept)
            if there != kept:
                data = self.fetch(claim["node"], there)
                if data is not None:
                    kept.write_bytes(data)
            text = kept.read_bytes().decode(errors="replace")
        except (OSError, KeyError):
            return None
        return text[-20_000:] or None

    def _patiently(self, write: Callable[[], T]) -> T:
        return patiently(write, self.tell, give_up=self.give_up)

    def _checkpointed(self, run_id: str, attempt: int) -> bool:
        folder = self.store.path / "checkpoints" / run_id
        return any(folder.glob(f"{attempt}.*.json"))


def log_path(store: Store, run_id: str, attempt: int) -> Place:
    """Where what the process of an attempt writes is kept."""
    return store.path / "logs" / f"{run_id}.{attempt}.log"


def local_log(kept: Place) -> Path:
    """The file that the process writes to: itself, or one of its machine that is copied to a bucket."""
    if isinstance(kept, Path):
        return kept
    store = hashlib.sha256(str(kept.parent).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"peftgrid-logs-{os.getuid()}" / store / kept.name
