"""Metrics against numbers worked by hand and against scipy."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from results import metrics

LOGITS = np.log(np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8]]))
LABELS = np.array([0, 1, 1, 2])


def test_by_hand():
    assert metrics.load("top1").compute(LOGITS, LABELS) == 0.75
    nll = -(math.log(0.7) + math.log(0.6) + math.log(0.4) + math.log(0.8)) / 4
    assert metrics.load("nll").compute(LOGITS, LABELS) == pytest.approx(nll, abs=1e-12)
    # Every image has a bin of its own: 0.3 + 0.4 + 0.5 + 0.2 over 4.
    assert metrics.load("ece").compute(LOGITS, LABELS) == pytest.approx(0.35, abs=1e-12)


def test_ece_within_one_bin():
    # Four images of confidence 0.75: calibrated with three right, 0.5 off with one.
    logits = np.log(np.array([[0.75, 0.25]] * 4))
    ece = metrics.load("ece").compute
    assert ece(logits, np.array([0, 0, 0, 1])) == pytest.approx(0, abs=1e-12)
    assert ece(logits, np.array([0, 1, 1, 1])) == pytest.approx(0.5, abs=1e-12)


def test_against_scipy_in_float32():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(500, 7)).astype(np.float32)
    # Labels drawn from the probabilities: gaps of both signs, so that the bins matter.
    labels = np.array([rng.choice(7, p=row) for row in softmax(logits.astype(np.float64), axis=1)])
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    expected = -np.mean([log_p[i, label] for i, label in enumerate(labels)])
    assert metrics.load("nll").compute(logits, labels) == pytest.approx(expected, rel=1e-12)

    p = softmax(logits.astype(np.float64), axis=1)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    ece = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.load("ece").compute(logits, labels) == pytest.approx(ece, rel=1e-9)


@pytest.mark.parametrize("name", metrics.names())
def test_every_metric_keeps_the_contract(name):
    metric = metrics.load(name)
    assert isinstance(metric.HIGHER_IS_BETTER, bool)
    # Seven classes, so that the last of them is not among the first five.
    good = metric.compute(9 * np.eye(7), np.arange(7))
    bad = metric.compute(-9 * np.eye(7), np.arange(7))
    assert isinstance(good, float)
    assert (good > bad) is metric.HIGHER_IS_BETTER
    extreme = np.array([[1e30, 0.0], [0.0, 1e30]], dtype=np.float32)
    huge = metric.compute(extreme, np.array([0, 1]))
    assert math.isfinite(huge)
    for odd in (np.nan, np.inf, -np.inf):
        assert math.isnan(metric.compute(np.array([[odd, 0.0]]), np.array([0])))
    with pytest.raises(ValueError, match="allowed: 0 to 1"):
        metric.compute(np.zeros((1, 2)), np.array([-1]))
    with pytest.raises(ValueError, match=r"allowed: \(N, C\)"):
        metric.compute(np.zeros((2, 2)), np.array([0]))
    with pytest.raises(ValueError, match=r"allowed: \(N, C\)"):
        metric.compute(np.zeros((0, 2)), np.zeros(0, dtype=np.int64))


def test_names_come_from_files():
    files = {path.stem for path in Path(metrics.__file__).parent.glob("[!_]*.py")}
    assert set(metrics.all_metrics()) == set(metrics.names()) == files >= {"top1", "nll", "ece"}
    with pytest.raises(ValueError, match=f"'acc' given, allowed: {', '.join(sorted(files))}"):
        metrics.load("acc")
