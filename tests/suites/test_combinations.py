"""`combine:` in a suite: one cell of several methods, its name, its axes and its mistakes."""

import pytest

from suites.load import SuiteError, loads

HEAD = """
schema: 1
suite: combine
backbone: vit_tiny_fashion
datasets: [mnist]
"""


def cells(methods, more=""):
    return list(loads(f"{HEAD}methods:\n{methods}\n{more}").cells())


def test_a_combination_is_one_cell_named_by_its_parts():
    (cell,) = cells(
        "  - {combine: [{name: miss, rank: 8, targets: [q, v]}, "
        "{name: lora, rank: 4, targets: [k, proj]}]}"
    )
    assert cell.spec.method == "lora+miss"
    assert cell.spec.variant == (
        "lora+miss[lora.rank=4,lora.targets=k+proj,miss.rank=8,miss.targets=q+v]"
    )
    trial = cell.spec.trial()
    assert trial.method_config.lora.rank == 4
    assert trial.method_config.miss.targets == ("q", "v")


def test_the_order_of_the_parts_is_no_part_of_the_identity():
    (first,) = cells("  - {combine: [{name: ssf}, {name: lora, rank: 8}]}")
    (second,) = cells("  - {combine: [{rank: 8.0, name: lora}, ssf]}")
    (third,) = cells("  - lora+ssf")
    assert first.spec.run_id == second.spec.run_id == third.spec.run_id


def test_a_list_of_a_part_is_an_axis():
    found = cells("  - {combine: [bitfit, {name: lora, rank: [1, 2], targets: [[q], [v]]}]}")
    assert [cell.spec.params["lora"]["rank"] for cell in found] == [1, 1, 2, 2]
    assert len({cell.spec.run_id for cell in found}) == 4


def test_rules_name_a_combination_as_tables_do():
    found = cells(
        "  - lora\n  - {combine: [lora, ssf]}",
        "overrides: [{when: {method: lora+ssf}, train: {lr: 0.5}}]",
    )
    assert [cell.spec.train["lr"] for cell in found] == [1e-3, 0.5]


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (
            "  - {combine: [bitfit, layernorm]}",
            "methods[0]: on vit_tiny_fashion: bitfit+layernorm: bitfit and layernorm both train",
        ),
        ("  - {combine: [lora]}", "lora given, allowed: two or more methods"),
        ("  - {combine: []}", "an empty list given"),
        ("  - {combine: [lora, [ssf]]}", "allowed: a name, or {name: ..., settings}"),
        ("  - {combine: [lora, lorra]}", "unknown method 'lorra'. Did you mean 'lora'?"),
        ("  - {combine: [lora, lora+ssf]}", "each by itself"),
        ("  - {combine: [lora, ssf], rank: 3}", "unknown key 'rank'"),
        ("  - {combine: [{name: lora, rank: 0}, ssf]}", "rank: 0 given"),
        (
            "  - {combine: [dora, {name: miss, mode: bat, rank: 8}]}",
            "one that reads the frozen weight",
        ),
    ],
)
def test_mistakes_in_a_combination_are_placed(methods, words):
    with pytest.raises(SuiteError) as caught:
        cells(methods)
    assert words in str(caught.value)
    assert all(problem.line >= 6 for problem in caught.value.problems)
