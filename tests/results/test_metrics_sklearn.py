"""Metrics of predicted classes against scikit-learn, against examples by hand, and their properties."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays
from sklearn import metrics as sk

from results import metrics


def compute(name, logits, labels):
    return metrics.load(name).compute(np.asarray(logits), np.asarray(labels))


def saying(classes, count):
    """Logits of which each image's largest is that of the class given."""
    return np.eye(count)[classes]


@st.composite
def scored(draw, least=1, most=8):
    """Distinct float32 logits of a few images, and labels that may leave classes out."""
    images, c = draw(st.integers(1, 12)), draw(st.integers(least, most))
    order = draw(st.permutations(range(images * c)))
    logits = np.array(order, dtype=np.float32).reshape(images, c)
    return logits, draw(arrays.arrays(np.int64, images, elements=st.integers(0, c - 1)))


@given(scored())
def test_class_top1_and_macro_f1_are_scikit_learns(given_):
    logits, labels = given_
    said, present = logits.argmax(1), np.unique(labels)
    recall = sk.recall_score(labels, said, labels=present, average="macro", zero_division=0)
    assert compute("class_top1", logits, labels) == pytest.approx(recall, abs=1e-12)
    f1 = sk.f1_score(labels, said, average="macro", zero_division=0)
    assert compute("macro_f1", logits, labels) == pytest.approx(f1, abs=1e-12)


@given(scored())
def test_kappa_is_scikit_learns(given_):
    logits, labels = given_
    said, classes = logits.argmax(1), np.arange(logits.shape[1])
    found = compute("kappa", logits, labels)
    if len({*labels, *said}) == 1:  # where scikit-learn divides 0 by 0
        assert math.isnan(found)
        return
    expected = sk.cohen_kappa_score(labels, said, labels=classes, weights="quadratic")
    assert found == pytest.approx(expected, abs=1e-12)


@given(scored(6, 9))
def test_top5_is_scikit_learns(given_):
    logits, labels = given_
    classes = np.arange(logits.shape[1])
    expected = sk.top_k_accuracy_score(labels, logits, k=5, labels=classes)
    assert compute("top5", logits, labels) == pytest.approx(expected, abs=1e-12)


@given(scored(1, 5))
def test_top5_of_at_most_five_classes_is_1(given_):
    assert compute("top5", *given_) == 1


@given(
    arrays.arrays(np.float32, (9, 8), elements=st.integers(0, 3)),
    arrays.arrays(np.int64, 9, elements=st.integers(0, 7)),
)
def test_top5_is_at_least_top1_also_where_logits_are_equal(logits, labels):
    assert compute("top5", logits, labels) >= compute("top1", logits, labels)


@pytest.mark.parametrize(("label", "found"), [(4, 1.0), (5, 0.0)])
def test_of_equal_logits_the_first_five_classes_count(label, found):
    assert compute("top5", np.zeros((1, 7)), [label]) == found


@given(scored())
def test_no_metric_depends_on_the_order_of_the_images(given_):
    logits, labels = given_
    for name in metrics.names():
        turned = compute(name, logits[::-1], labels[::-1])
        assert turned == pytest.approx(compute(name, logits, labels), abs=1e-12, nan_ok=True)


@given(scored(2))
@settings(max_examples=50)
def test_perfect_predictions_score_1(given_):
    _, labels = given_
    labels = np.concatenate([labels, [0, 1]])  # two classes, so that chance is no certainty
    for name in ("top1", "top5", "class_top1", "macro_f1", "kappa"):
        assert compute(name, saying(labels, 8), labels) == 1


# Four images of class 0, of which three are right, and one of class 1, wrong. Class 2 is only predicted.
LABELS, SAID = [0, 0, 0, 0, 1], saying([0, 0, 0, 2, 0], 4)


def test_by_hand_rare_classes_count_as_much_as_frequent_ones():
    assert compute("top1", SAID, LABELS) == pytest.approx(3 / 5)
    assert compute("class_top1", SAID, LABELS) == pytest.approx((3 / 4 + 0) / 2)


def test_by_hand_a_class_that_is_only_predicted_lowers_f1():
    # Class 0: 2 * 3 right of 4 labelled and 4 predicted; classes 1 and 2: 0; class 3 does not occur.
    assert compute("macro_f1", SAID, LABELS) == pytest.approx((6 / 8 + 0 + 0) / 3)


def test_by_hand_kappa_punishes_by_the_square_of_the_distance():
    labels = [0, 1, 2, 3]
    # One image is off by 1 or by 3: 1/4 or 9/4 in the mean. By chance, of the 4 x 4 squares: against
    # the predictions 0, 1, 2, 3 these sum up to 14, 6, 6, 14.
    near, far = saying([1, 1, 2, 3], 4), saying([3, 1, 2, 3], 4)
    assert compute("kappa", near, labels) == pytest.approx(1 - (1 / 4) / ((6 + 6 + 6 + 14) / 16))
    assert compute("kappa", far, labels) == pytest.approx(1 - (9 / 4) / ((14 + 6 + 6 + 14) / 16))


def test_kappa_of_constant_predictions_is_chance():
    assert compute("kappa", saying([2, 2, 2], 4), [0, 1, 2]) == 0


def test_kappa_is_nan_where_all_is_one_class():
    assert math.isnan(compute("kappa", saying([2, 2], 4), [2, 2]))
