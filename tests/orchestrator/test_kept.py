"""What the store keeps of a finished run, by what the suite's `store` says and by size."""

import numpy as np
import pytest
from safetensors.numpy import load

from adapters.training.evaluate import Predictions
from orchestrator.kept import PREDICTION_BYTES, Kept
from results.errors import StoreError
from results.predictions import predictions_of
from results.store import Store
from suites.schema import Keep


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store", create=True)


@pytest.fixture
def spec(make_suite):
    return next(iter(make_suite("kept").cells())).spec


def kept(store, spec, **keep):
    return Kept(Keep(**keep), store, spec, 1, lambda write: write())


def scored(images, classes=10):
    return Predictions(np.zeros((images, classes), np.float32), np.zeros(images, np.int64))


def test_small_predictions_are_kept_by_default_with_what_they_are_of(store, spec):
    found = kept(store, spec)
    found.predictions(scored(4), "images")
    row = {"run_id": spec.run_id, "status": "succeeded", **found.columns}
    read = predictions_of(store, row)
    assert (read.split, read.dataset) == ("test", "shapes_location")
    assert read.data_digest == "images"
    assert len(read.labels_N) == 4


@pytest.mark.parametrize(("more", "expected"), [(0, True), (1, False)])
def test_small_ends_at_its_bytes(store, spec, more, expected):
    found = kept(store, spec)
    found.predictions(scored(PREDICTION_BYTES // (2 * 1000) + more, 1000), "images")
    assert bool(found.columns) is expected


def test_all_keeps_any_size_and_none_keeps_nothing(store, spec):
    large = scored(PREDICTION_BYTES // 20 + 1)
    everything, nothing = (
        kept(store, spec, predictions="all"),
        kept(store, spec, predictions="none"),
    )
    everything.predictions(large, "images")
    nothing.predictions(scored(4), "images")
    (path,) = (store.path / "predictions").iterdir()
    assert path.stat().st_size > PREDICTION_BYTES
    assert everything.columns["predictions_file"].endswith(path.name)
    assert nothing.columns == {}


def test_predictions_that_are_not_finite_are_not_kept(store, spec):
    found = kept(store, spec, predictions="all")
    found.predictions(
        Predictions(np.full((4, 2), np.nan, np.float32), np.zeros(4, np.int64)), "images"
    )
    assert found.columns == {}


def test_the_columns_of_model_and_predictions_come_together(store, spec, monkeypatch):
    monkeypatch.setattr("adapters.saved.to_bytes", lambda _: b"model")
    found = kept(store, spec)
    found.predictions(scored(4), "images")
    found.model(None)
    assert set(found.columns) == {
        *("model_file", "model_bytes", "model_digest"),
        *("predictions_file", "predictions_digest"),
    }
    data = (store.path / found.columns["predictions_file"]).read_bytes()
    assert load(data)["logits"].shape == (4, 10)


def test_writing_is_what_waits_for_the_storage(store, spec):
    def give_up(write):
        raise StoreError("full")

    found = Kept(Keep(), store, spec, 1, give_up)
    with pytest.raises(StoreError, match="full"):
        found.predictions(scored(4), "images")
    assert not list((store.path / "predictions").iterdir())
