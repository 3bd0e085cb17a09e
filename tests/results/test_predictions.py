"""Stored predictions: what is kept of the logits, what is refused, and what is asked of them."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays
from safetensors import safe_open
from safetensors.numpy import load, save

from results import metrics
from results.errors import StoreError
from results.predictions import (
    Predictions,
    correct,
    ensemble_top1,
    is_storable,
    load_predictions,
    overlap,
    predictions_of,
    rounded,
    save_predictions,
    stored_bytes,
)

LOGITS = np.array([[2.0, 1.0, -3.0], [0.5, 0.25, 4.0], [7.0, 7.5, 7.25]], dtype=np.float32)
LABELS = np.array([0, 2, 2])
SET = {"split": "test", "dataset": "mnist", "data_digest": "abc"}


@pytest.fixture
def kept(store, attempt):
    """A store with a run that has predictions; the store, and the predictions' file."""
    columns = save_predictions(store, "run1", 1, LOGITS, LABELS, **SET)
    store.commit(attempt("run1", **columns))
    (path,) = (store.path / "predictions").iterdir()
    return store, path


def said(classes, labels, **changed):
    """Predictions of which each image's largest logit is that of the class given, of three."""
    logits = np.where(np.eye(3)[classes] > 0, 0, -1).astype(np.float16)
    return Predictions(logits_NC=logits, labels_N=np.array(labels), **SET | changed)


def test_what_was_kept_is_read_back(kept):
    found = load_predictions(kept[0], "run1")
    assert np.array_equal(found.labels_N, LABELS)
    assert found.labels_N.dtype == np.int64
    assert np.array_equal(found.logits_NC, [[0, -1, -5], [-3.5, -3.75, 0], [-0.5, 0, -0.25]])
    assert (found.split, found.dataset, found.data_digest) == ("test", "mnist", "abc")


def test_the_row_names_the_file_and_its_digest(kept):
    store, path = kept
    (row,) = store.runs().to_pylist()
    assert row["predictions_file"] == f"predictions/{path.name}"
    assert path.name.startswith("run1.1.")
    assert row["predictions_digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert correct(predictions_of(store, row)).tolist() == [True, True, False]


def test_a_logit_takes_two_bytes(store):
    small, large = (np.zeros((n, 50), dtype=np.float32) for n in (100, 200))
    sizes = []
    for n, logits in enumerate((small, large), start=1):
        labels = np.zeros(len(logits), dtype=np.int64)
        name = save_predictions(store, "r", n, logits, labels, **SET)["predictions_file"]
        sizes.append((store.path / name).stat().st_size)
    assert stored_bytes(large) - stored_bytes(small) == 100 * 50 * 2
    assert sizes[1] - sizes[0] == pytest.approx(100 * (50 * 2 + 4), abs=16)


@given(arrays.arrays(np.float32, (3, 4), elements={"allow_nan": False, "allow_infinity": False}))
def test_rounding_keeps_the_class_and_is_finite(logits):
    half = rounded(logits)
    assert half.dtype == np.float16
    assert is_storable(half)
    assert np.array_equal(half.argmax(1), logits.argmax(1))
    assert np.array_equal(half.max(1), np.zeros(3))


@given(arrays.arrays(np.float32, (5, 6), elements={"min_value": -30, "max_value": 30}))
def test_rounding_keeps_what_is_asked_of_classes_and_nearly_what_is_asked_of_probabilities(logits):
    labels = np.arange(5)
    for name in metrics.names():
        compute = metrics.load(name).compute
        if name not in ("nll", "ece", "top5"):
            assert np.array_equal(
                compute(rounded(logits), labels), compute(logits, labels), equal_nan=True
            )
    nll = metrics.load("nll").compute
    assert nll(rounded(logits), labels) == pytest.approx(nll(logits, labels), abs=0.02)


def test_logits_that_are_not_finite_are_not_storable():
    assert is_storable(LOGITS)
    assert not is_storable(np.array([[0.0, np.nan]]))
    assert not is_storable(np.array([[0.0, np.inf]]))


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_file_is_refused_by_name(kept, damage):
    store, path = kept
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        data[-1] ^= 1
        path.write_bytes(data if damage == "flip" else data[:-2])
    with pytest.raises(StoreError, match=path.name):
        load_predictions(store, "run1")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"no safetensors", "not the predictions"),
        (save({"logits": LOGITS}), "not the predictions of run run1"),
    ],
)
def test_a_foreign_file_is_refused_by_name(store, attempt, data, says):
    (store.path / "predictions" / "x").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    store.commit(attempt(predictions_file="predictions/x", predictions_digest=digest))
    with pytest.raises(StoreError, match=f"predictions/x: {says}"):
        load_predictions(store, "run1")


def test_labels_that_are_not_the_headers_are_refused(kept):
    store, path = kept
    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
    tensors = load(path.read_bytes())
    data = save(tensors | {"labels": tensors["labels"][::-1].copy()}, metadata=header)
    (store.path / "predictions" / "x").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    row = {"run_id": "run1", "status": "succeeded", "predictions_file": "predictions/x"}
    with pytest.raises(StoreError, match="other labels than its header says"):
        predictions_of(store, row | {"predictions_digest": digest})


def test_the_predictions_of_another_run_are_refused(kept, attempt):
    store, _ = kept
    (row,) = store.runs().to_pylist()
    names = {name: row[name] for name in ("predictions_file", "predictions_digest")}
    store.commit(attempt("run2", **names))
    with pytest.raises(StoreError, match=r"not the predictions of run run2 \(format 1 of run run1"):
        load_predictions(store, "run2")


def test_a_run_without_predictions_says_what_keeps_them(store, attempt):
    store.commit(attempt("run1"))
    with pytest.raises(
        StoreError, match=r"run1 \(succeeded\) has no predictions, allowed: .*small"
    ):
        load_predictions(store, "run1")
    with pytest.raises(StoreError, match="run run9: not in"):
        load_predictions(store, "run9")


def test_a_name_with_a_path_does_not_lead_out_of_the_folder(store, attempt):
    columns = save_predictions(store, "run1", 1, LOGITS, LABELS, **SET)
    outside = store.path / "x"
    outside.write_bytes((store.path / columns["predictions_file"]).read_bytes())
    store.commit(attempt(**columns | {"predictions_file": "../x"}))
    with pytest.raises(StoreError, match="predictions/x: cannot be read"):
        load_predictions(store, "run1")


LABELLED = [0, 1, 2, 0]
A, B, C = ([0, 1, 0, 1], [0, 2, 0, 2], [0, 1, 2, 0])  # wrong: the last two; the last three; none


def test_by_hand_overlap():
    found = overlap({name: said(p, LABELLED) for name, p in zip("abc", (A, B, C), strict=True)})
    assert found.names == ("a", "b", "c")
    assert found.agreement_VV.tolist() == [[1, 0.5, 0.5], [0.5, 1, 0.25], [0.5, 0.25, 1]]
    # Two images are wrong in both a and b, three in either.
    expected = [[1, 2 / 3, 0], [2 / 3, 1, 0], [0, 0, math.nan]]
    assert np.array_equal(found.shared_errors_VV, expected, equal_nan=True)


def test_correct_counts_as_top1_does():
    found = said(A, LABELLED)
    assert correct(found).tolist() == [True, True, False, False]
    assert correct(found).mean() == metrics.load("top1").compute(found.logits_NC, found.labels_N)


def sure(*logits):
    """Predictions of one image of class 0, of three classes."""
    return Predictions(logits_NC=np.array([logits], np.float16), labels_N=np.array([0]), **SET)


def test_an_ensemble_of_one_is_that_run():
    for rule in ("softmax", "logits", "vote"):
        assert ensemble_top1({"b": said(B, LABELLED)}, rule) == 0.25


def test_by_hand_rules_of_an_ensemble():
    # Two runs lean to class 0, one is all but certain of class 1.
    runs = {"a": sure(0, -1, -9), "b": sure(0, -1, -9), "c": sure(-9, 0, -9)}
    assert ensemble_top1(runs, "vote") == 1
    assert ensemble_top1(runs, "logits") == 0  # -9 / 3 against -2 / 3
    assert ensemble_top1(runs, "softmax") == 0  # 2 * 0.73 against 2 * 0.27 + 1


def test_a_tied_vote_goes_to_the_surer_runs():
    assert ensemble_top1({"a": sure(0, -5, -5), "b": sure(-1, 0, -9)}, "vote") == 1
    assert ensemble_top1({"a": sure(0, -1, -9), "b": sure(-5, 0, -5)}, "vote") == 0


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="'max' given, allowed: softmax, logits, vote"):
        ensemble_top1({"a": said(A, LABELLED)}, "max")


@pytest.mark.parametrize(
    "other",
    [
        said(A, [0, 1, 2, 1]),
        said(A[:3], LABELLED[:3]),
        said(A, LABELLED, dataset="digits"),
        said(A, LABELLED, split="val"),
        said(A, LABELLED, data_digest="other"),
    ],
)
@pytest.mark.parametrize("ask", [overlap, ensemble_top1])
def test_runs_that_scored_other_images_are_refused_by_name(ask, other):
    with pytest.raises(ValueError, match=r"those of first .* and second .* given, allowed: runs"):
        ask({"first": said(A, LABELLED), "second": other})


@pytest.mark.parametrize("ask", [overlap, ensemble_top1])
def test_no_runs_are_refused(ask):
    with pytest.raises(ValueError, match="none given, allowed"):
        ask({})
