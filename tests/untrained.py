"""A finished run in a store without the training: its model is the one before the first step."""

from datetime import UTC, datetime

import torch

from adapters import registry
from adapters.saved import to_bytes
from adapters.trial import build
from adapters.warm import Warm
from orchestrator import rows
from results.models import save_model


def commit_untrained(store, spec, *, change=None):
    """Commit a success of `spec` with its model, which `change` may alter first; return the model."""
    trial = spec.trial()
    classes = registry.classes(trial.dataset, trial.dataset_config)
    adapted = build(trial, classes, Warm(torch.device("cpu")))
    if change is not None:
        with torch.no_grad():
            change(adapted)
    number = store.claim(spec.run_id, {"job": "test"})
    columns = save_model(store, spec.run_id, number, to_bytes(adapted))
    now = datetime.now(UTC)
    store.commit(rows.attempt(spec, number=number, started_at=now, status="succeeded", **columns))
    return adapted
