"""Resources by override: what a run's job asks for, checked with its place and never its identity."""

import pytest

from suites.load import SuiteError, loads
from suites.schema import Resources

SUITE = """\
schema: 1
suite: shapes
backbone: vit_tiny_fashion
methods: [full, {name: lora, rank: 2}]
datasets: [digits]
"""
TWO = "overrides: [{when: {method: full}, resources: {gpus: 2, workers: 2}}]\n"


def test_an_override_gives_its_runs_another_shape():
    suite = loads(SUITE + "resources: {gpus: 0.25, cpus: 2}\n" + TWO)
    shapes = {cell.spec.method: suite.shape(cell.spec) for cell in suite.cells()}
    assert shapes == {
        "full": Resources(gpus=2, cpus=2, workers=2),
        "lora": Resources(gpus=0.25, cpus=2),
    }


def test_the_last_override_that_gives_a_setting_holds():
    more = (
        "overrides:\n- {when: {method: full}, resources: {cpus: 2, memory: 1GiB}}\n"
        "- {when: {dataset: digits}, resources: {cpus: 3}, train: {lr: 1}}\n"
    )
    suite = loads(SUITE + more)
    full, lora = (suite.shape(cell.spec) for cell in suite.cells())
    assert full == Resources(cpus=3, memory="1GiB")
    assert lora == Resources(cpus=3)


def test_shapes_are_no_part_of_the_identity():
    plain = [cell.spec.run_id for cell in loads(SUITE).cells()]
    assert [cell.spec.run_id for cell in loads(SUITE + TWO).cells()] == plain


@pytest.mark.parametrize(
    ("resources", "line", "column", "said"),
    [
        ("{gpus: 0.5, workers: 2}", 6, 54, "0.5 given, allowed with workers: 2: auto, 0, 2 "),
        ("{gpus: 2}", 6, 54, "2 given, allowed with workers: 1: auto, 0, 1 or a share below 1 "),
        ("{workers: 0}", 6, 57, "allowed: a finite number of at least 1"),
        ("{workers: {min: 1, max: 4}}", 6, 48, "a whole number"),
        ("{workers: 2, min_workers: 3}", 6, 73, "3 given, allowed: 1 to 2 (workers)"),
        ("{workers: 2, min_workers: 0}", 6, 73, "allowed: a finite number of at least 1"),
        ("{cores: 2}", 6, 48, "unknown key"),
        ("{cpus: [1, 2]}", 6, 48, "a whole number"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(resources, line, column, said):
    with pytest.raises(SuiteError) as caught:
        loads(SUITE + f"overrides: [{{when: {{method: full}}, resources: {resources}}}]\n")
    (problem,) = caught.value.problems
    assert said in problem.message
    assert (problem.line, problem.column) == (line, column)


def test_overrides_that_fit_alone_and_not_together():
    more = (
        "overrides:\n- {when: {method: full}, resources: {gpus: 0.5}}\n"
        "- {when: {dataset: digits}, resources: {workers: 2}}\n"
    )
    with pytest.raises(SuiteError, match=r":7:44: .*gpus: 0.5 given, allowed with workers: 2"):
        loads(SUITE + more)
