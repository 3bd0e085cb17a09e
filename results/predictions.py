"""Predictions of a store: what a run says of the test set, so that later questions need no training.

    predictions/<run_id>.<n>.<random>.safetensors

One file per attempt, named by its row with its digest. It holds `logits` (N, C) in float16 and
`labels` (N,), both in the order of the split, and in the header's entry `peftgrid`, as JSON, the run,
the split, the data set and the digests of its source and of these labels. N images, C classes, V runs.

The largest logit of each image is subtracted before rounding, which no softmax, ranking or mean of
logits sees. So the logits in which runs differ keep most digits, and the class of the largest
is the very one that the float32 logits had.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from results.errors import StoreError
from results.files import create_named, read_named
from results.metrics._logits import log_softmax
from results.metrics._predicted import predicted
from results.store import Store

FORMAT = 1
_KEY = "peftgrid"
_SMALLEST = np.finfo(np.float16).smallest_subnormal
_LOWEST = np.finfo(np.float16).min
Rule = Literal["softmax", "logits", "vote"]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What one run says of N images, in the order of their split."""

    logits_NC: NDArray[np.float16]
    """The largest of each image is 0."""
    labels_N: NDArray[np.int64]
    split: str
    dataset: str
    data_digest: str
    """Of the data set's source images."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How alike V runs predict; row and column i are `names[i]`."""

    names: tuple[str, ...]
    agreement_VV: NDArray[np.float64]
    """Fraction of the images that both give the same class, right or wrong."""
    shared_errors_VV: NDArray[np.float64]
    """Images that both get wrong, of those that either gets wrong; nan where neither errs."""


def stored_bytes(logits_NC: NDArray[Any]) -> int:
    """What the logits take in a file."""
    return logits_NC.size * np.dtype(np.float16).itemsize


def is_storable(logits_NC: NDArray[Any]) -> bool:
    """Whether all are finite: others predict nothing."""
    return bool(np.isfinite(logits_NC).all())


def save_predictions(
    store: Store,
    run_id: str,
    attempt: int,
    logits_NC: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    *,
    split: str,
    dataset: str,
    data_digest: str,
) -> dict[str, Any]:
    """Write predictions before their attempt is committed; the columns by which the row names them."""
    header = {
        "format": FORMAT,
        "run_id": run_id,
        "split": split,
        "dataset": dataset,
        "data_digest": data_digest,
        "labels_digest": _labels_digest(labels_N),
    }
    data: bytes = save(
        {"logits": rounded(logits_NC), "labels": labels_N.astype(np.int32)},
        metadata={_KEY: json.dumps(header, sort_keys=True)},
    )
    name, digest = create_named(store.path, "predictions", run_id, attempt, data)
    return {"predictions_file": name, "predictions_digest": digest}


def rounded(logits_NC: NDArray[Any]) -> NDArray[np.float16]:
    """Finite logits less the image's largest, in float16, with the same argmax."""
    below_NC = logits_NC.astype(np.float64)
    below_NC -= below_NC.max(axis=1, keepdims=True)
    half_NC = np.maximum(below_NC, _LOWEST).astype(np.float16)
    # What is below the largest stays below it, however close.
    half_NC[(below_NC < 0) & (half_NC == 0)] = -_SMALLEST
    return half_NC


def load_predictions(store: Store, run_id: str) -> Predictions:
    """What a run says of its test set. Raises StoreError as `predictions_of`, or for no such run."""
    columns = ("status", "predictions_file", "predictions_digest")
    for row in store.runs(columns).to_pylist():
        if row["run_id"] == run_id:
            return predictions_of(store, row)
    raise StoreError(f"run {run_id}: not in {store.path}, allowed: the run_id of a run in it")


def predictions_of(store: Store, row: Mapping[str, Any]) -> Predictions:
    """What a row of `runs` names.

    Raises StoreError where the row names nothing, or the file is not what was committed.
    """
    run_id = row["run_id"]
    if row["predictions_file"] is None:
        raise StoreError(
            f"run {run_id} ({row['status']}) has no predictions, allowed: a finished run that scored "
            "a test set, of a suite whose `store: {predictions: ...}` kept them (`small` up to "
            "4 MB, `all` any size)"
        )
    path = store.path / "predictions" / PurePosixPath(row["predictions_file"]).name
    data = read_named(path, row["predictions_digest"])
    try:
        header, tensors = _header(data), load(data)
        if (header["format"], header["run_id"]) != (FORMAT, run_id):
            raise ValueError(f"format {header['format']} of run {header['run_id']}")
        logits_NC, labels_N = tensors["logits"], tensors["labels"].astype(np.int64)
        if _labels_digest(labels_N) != header["labels_digest"]:
            raise ValueError("other labels than its header says")
        return Predictions(
            logits_NC=logits_NC,
            labels_N=labels_N,
            **{name: header[name] for name in ("split", "dataset", "data_digest")},
        )
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: not the predictions of run {run_id} ({error})") from error


def correct(predictions: Predictions) -> NDArray[np.bool_]:
    """Which of the N images the run gets right."""
    correct_N: NDArray[np.bool_] = predicted(predictions.logits_NC) == predictions.labels_N
    return correct_N


def overlap(named: Mapping[str, Predictions]) -> Overlap:
    """How alike runs predict. Raises ValueError where they did not score the same images."""
    _same_images(named)
    classes_VN = np.stack([predicted(p.logits_NC) for p in named.values()])
    wrong_VN = np.stack([~correct(p) for p in named.values()]).astype(np.float64)
    both_VV = wrong_VN @ wrong_VN.T
    wrong_V = wrong_VN.sum(axis=1)
    either_VV = wrong_V[:, None] + wrong_V[None, :] - both_VV
    shared_VV = np.full_like(both_VV, np.nan)
    np.divide(both_VV, either_VV, out=shared_VV, where=either_VV > 0)
    agreement_VV = np.stack([(classes_VN == row_N).mean(axis=1) for row_N in classes_VN])
    return Overlap(names=tuple(named), agreement_VV=agreement_VV, shared_errors_VV=shared_VV)


def ensemble_top1(named: Mapping[str, Predictions], rule: Rule = "softmax") -> float:
    """The accuracy of V runs together, as a fraction.

    `softmax` takes the class of the largest mean probability, `logits` of the largest mean logit,
    `vote` the one that most runs name; of equals the one with the larger mean probability. Raises
    ValueError for another rule, or where the runs did not score the same images.
    """
    if rule not in get_args(Rule):
        raise ValueError(f"rule: {rule!r} given, allowed: {', '.join(get_args(Rule))}")
    labels_N = _same_images(named)
    runs = list(named.values())
    if rule == "logits":
        score_NC = np.mean([p.logits_NC.astype(np.float64) for p in runs], axis=0)
    else:
        score_NC = np.mean([np.exp(log_softmax(p.logits_NC)) for p in runs], axis=0)
    if rule == "vote":
        for p in runs:
            # A mean probability is at most 1, so less than 2 never outweighs a vote.
            score_NC[np.arange(len(labels_N)), predicted(p.logits_NC)] += 2
    return float((score_NC.argmax(axis=1) == labels_N).mean())


def _same_images(named: Mapping[str, Predictions]) -> NDArray[np.int64]:
    """The labels that all share; ValueError names two runs that did not score the same images."""
    if not named:
        raise ValueError("predictions: none given, allowed: those of at least one run")
    (first, one), *others = named.items()
    for name, other in others:
        if _images(other) != _images(one):
            raise ValueError(
                f"predictions: those of {first} ({_said(one)}) and {name} ({_said(other)}) given, "
                "allowed: runs that scored the same images"
            )
    return one.labels_N


def _images(p: Predictions) -> tuple[Any, ...]:
    return p.split, p.dataset, p.data_digest, p.logits_NC.shape, _labels_digest(p.labels_N)


def _said(p: Predictions) -> str:
    return f"{p.dataset}, {p.split}, {len(p.labels_N)} images"


def _labels_digest(labels_N: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels_N.astype("<i8")).tobytes()).hexdigest()


def _header(data: bytes) -> dict[str, Any]:
    """Safetensors: eight bytes of length, little-endian, then the header as JSON."""
    end = 8 + int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(json.loads(data[8:end])["__metadata__"][_KEY])
    return header
