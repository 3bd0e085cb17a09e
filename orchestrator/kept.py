"""What a finished run leaves in the store beside its rows, as the suite's `store` has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.adapted import Adapted
    from adapters.training.evaluate import Predictions
    from results.store import Store
    from suites.schema import Keep
    from suites.spec import RunSpec

Write = Callable[[], dict[str, Any]]

MODEL_BYTES = 16_000_000
"""Largest model that `store: {models: final}` keeps."""
PREDICTION_BYTES = 4_000_000
"""Most that the float16 logits may take which `store: {predictions: small}` keeps."""


class Kept:
    """Writes the files of one attempt, before it is committed."""

    def __init__(
        self,
        keep: Keep,
        store: Store,
        spec: RunSpec,
        number: int,
        patiently: Callable[[Write], dict[str, Any]],
    ) -> None:
        self.columns: dict[str, Any] = {}
        """Of the attempt's row: they name what was written."""
        self._keep, self._store, self._spec, self._number = keep, store, spec, number
        self._patiently = patiently

    def model(self, adapted: Adapted) -> None:
        """Store what was trained, where the suite wants it kept."""
        from adapters.saved import to_bytes
        from results.models import save_model

        keep, is_tuning = self._keep.models, self._spec.train["score"] == "none"
        if keep == "none" or (keep == "final" and is_tuning):
            return
        data = to_bytes(adapted)
        if keep == "final" and len(data) > MODEL_BYTES:
            return
        self._write(lambda: save_model(self._store, self._spec.run_id, self._number, data))

    def predictions(self, scored: Predictions, data_digest: str) -> None:
        """Store the test set's logits, where the suite wants them kept."""
        from results.predictions import is_storable, save_predictions, stored_bytes

        keep, logits = self._keep.predictions, scored.logits
        if keep == "none" or (keep == "small" and stored_bytes(logits) > PREDICTION_BYTES):
            return
        if not is_storable(logits):
            return
        self._write(
            lambda: save_predictions(
                self._store,
                self._spec.run_id,
                self._number,
                logits,
                scored.labels,
                split="test",
                dataset=self._spec.dataset,
                data_digest=data_digest,
            )
        )

    def _write(self, write: Write) -> None:
        self.columns |= self._patiently(write)
