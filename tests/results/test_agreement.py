"""Runs compared image by image, on predictions small enough to check by hand."""

import json
import sys

import numpy as np
import pytest

from orchestrator.cli import main
from results import figures
from results.compare import compare
from results.errors import FigureError, TableError
from results.predictions import save_predictions

LABELS = np.arange(10, dtype=np.int64) % 2
# By variant and seed, the images that the run gets wrong.
WRONG = {
    "lora": ([0], [0]),
    "ia3": ([0, 1, 2, 3, 4, 5, 6], [0, 1]),
    "linear": ([5, 6, 7, 8, 9], [5, 6]),
}


@pytest.fixture
def predicted(store, attempt, cell):
    """A plan of the variants with two seeds on mnist, all with stored predictions but those named."""

    def build(*, without=(), labels=LABELS, more=()):
        rows = []
        for variant, by_seed in WRONG.items():
            for seed, wrong in enumerate(by_seed):
                run_id = f"{variant}{seed}"
                rows.append(cell(run_id, variant, "mnist", seed))
                classes = LABELS.copy()
                classes[wrong] = 1 - classes[wrong]
                own = labels if (variant, seed) in more else LABELS
                kept = {}
                if (variant, seed) not in without:
                    kept = save_predictions(
                        store,
                        run_id,
                        1,
                        np.eye(2, dtype=np.float32)[classes] * 3,
                        own,
                        split="test",
                        dataset="mnist",
                        data_digest="d",
                    )
                top1 = 1 - len(wrong) / 10
                done = {"variant": variant, "seed": seed, "metrics": {"test/top1": top1}, **kept}
                store.commit(attempt(run_id, **done))
        store.save_plan("demo", rows[0].suite_digest, "text", rows)
        return store

    return build


def test_mcnemar_of_every_pair_and_seed_with_holms_correction(predicted):
    found = compare(predicted(), ["lora", "ia3"], images="mnist").agreement
    assert (found.dataset, found.seeds, found.images) == ("mnist", (0, 1), 10)
    first, second = found.tests
    assert (first.a, first.b, first.seed, first.only_a, first.only_b) == ("lora", "ia3", 0, 6, 0)
    assert first.p == pytest.approx(2 / 2**6)
    assert (second.only_a, second.only_b, second.p) == (1, 0, 1.0)
    assert (first.p_holm, second.p_holm) == (pytest.approx(4 / 2**6), 1.0)


def test_agreement_shared_errors_and_ensembles_are_means_over_seeds(predicted):
    found = compare(predicted(), ["lora", "ia3", "linear"], images="mnist").agreement
    assert found.top1 == pytest.approx((0.9, 0.55, 0.65))
    assert found.agreement[0] == pytest.approx((1.0, (0.4 + 0.9) / 2, (0.4 + 0.7) / 2))
    assert found.shared_errors[0][1] == pytest.approx((1 / 7 + 1 / 2) / 2)
    assert found.shared_errors[0][2] == 0.0
    # Two of three are wrong on images 0, 5 and 6 with seed 0, and on image 0 with seed 1.
    assert found.ensembles["vote"] == pytest.approx((0.7 + 0.9) / 2)
    assert found.any_right == 1.0


def test_a_seed_without_all_predictions_is_left_out_and_named(predicted):
    found = compare(predicted(without=[("ia3", 1)]), ["lora", "ia3"], images="mnist").agreement
    assert found.seeds == (0,)
    assert found.missing == ("seed 1: ia3",)


def test_what_cannot_be_compared_is_refused(predicted):
    store = predicted(without=[("ia3", 0), ("ia3", 1)], labels=LABELS[::-1], more=[("lora", 0)])
    with pytest.raises(TableError, match="no seed with stored predictions of all of lora, ia3"):
        compare(store, ["lora", "ia3"], images="mnist")
    with pytest.raises(TableError, match="data set: digits given, allowed: mnist"):
        compare(store, ["lora", "linear"], images="digits")
    with pytest.raises(TableError, match="allowed: runs that scored the same images"):
        compare(store, ["lora", "linear"], images="mnist")


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "json"])
def test_the_command_prints_the_tests(predicted, form, monkeypatch, capsys):
    words = ["compare", "lora", "ia3", "--images", "mnist", "--format", form]
    store = predicted()
    monkeypatch.setattr(sys, "argv", ["peftgrid", *words, "--store", str(store.path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    said = capsys.readouterr().out
    if form == "json":
        assert json.loads(said)["agreement"]["tests"][0]["only_a"] == 6
    else:
        assert "McNemar" in said
        assert "0.0312" in said
        assert "0.0625" in said


def test_the_figure_draws_the_numbers_of_the_agreement(predicted):
    store = predicted()
    picture = figures.make(store, "overlap", "demo")
    found = compare(store, ["lora", "ia3", "linear"], images="mnist").agreement
    records = picture.drawing.records
    assert records == (
        ("ia3", "lora", found.agreement[1][0], found.shared_errors[1][0]),
        ("linear", "lora", found.agreement[2][0], found.shared_errors[2][0]),
        ("linear", "ia3", found.agreement[2][1], found.shared_errors[2][1]),
    )
    assert picture.to_svg() == figures.make(store, "overlap", "demo").to_svg()
    assert "lora is most like ia3: the same class on 0.6500." in picture.alt


def test_the_figure_names_whom_it_leaves_out(predicted):
    store = predicted(without=[("ia3", 1)])
    picture = figures.make(store, "overlap", "demo")
    assert len(picture.drawing.records) == 1
    assert "not drawn, without stored predictions of every seed: ia3" in picture.caption


def test_the_figure_wants_two_variants_with_predictions(predicted):
    store = predicted(without=[("ia3", 1), ("linear", 0)])
    with pytest.raises(FigureError, match="overlap: 1 variants with stored predictions"):
        figures.make(store, "overlap", "demo")
