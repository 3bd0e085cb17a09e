"""How a suite says what images become, and that it is part of who a run is."""

import pytest

from adapters.preprocess import Preprocess
from suites.document import SuiteError
from suites.load import loads
from suites.spec import run_spec

SUITE = """
schema: 1
suite: s
backbone: vit_tiny_fashion
methods: [linear]
datasets: [mnist]
{more}
"""


def spec(more=""):
    (cell,) = loads(SUITE.format(more=more)).cells()
    return cell.spec


def test_the_usual_is_what_runs_had_before_it_could_be_chosen():
    usual = spec()
    assert spec("preprocess: {resize: squash, normalise: backbone}").run_id == usual.run_id
    assert set(usual.science["preprocessing"]) == {"size", "mean", "std", "interpolation", "resize"}


@pytest.mark.parametrize(
    "given",
    [
        "resize: crop",
        "resize: square_crop",
        "normalise: none",
        "normalise: half",
        "interpolation: bilinear",
    ],
)
def test_what_changes_the_input_changes_the_run_and_comes_back(given):
    found = spec(f"preprocess: {{{given}}}")
    name, value = given.split(": ")
    assert found.run_id != spec().run_id
    assert getattr(found.trial().preprocess, name) == value
    assert run_spec(found.trial()).run_id == found.run_id


def test_the_interpolation_that_the_backbone_has_anyway_is_no_other_run():
    own = spec().science["preprocessing"]["interpolation"]
    assert spec(f"preprocess: {{interpolation: {own}}}").run_id == spec().run_id


def test_every_grid_of_a_suite_has_it():
    text = """
schema: 1
suite: s
backbone: vit_tiny_fashion
preprocess: {normalise: half}
grids:
  - {methods: [linear], datasets: [mnist]}
  - {methods: [ia3], datasets: [digits]}
"""
    found = [cell.spec.trial().preprocess for cell in loads(text).cells()]
    assert found == [Preprocess(normalise="half")] * 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{resize: stretch}", "7:22: preprocess.resize: 'stretch' given"),
        ("{size: 224}", "preprocess"),
        ("crop", "preprocess"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(given, said):
    with pytest.raises(SuiteError) as caught:
        loads(SUITE.format(more=f"preprocess: {given}"))
    assert said in str(caught.value)
