"""Tune cells, groups, winners and finals."""

import pytest

from suites.load import SuiteError, loads
from suites.spec import trainable_params

SUITE = """
schema: 1
suite: tuned
backbone: vit_tiny_fashion
methods: [linear, {name: lora, rank: [2, 4]}]
datasets: [mnist, digits]
seeds: 3
train: {epochs: 2}
protocol:
  tune: {grid: {lr: [1e-3, 1e-2], weight_decay: [0, 1e-4]}, seeds: [5, 6]}
  select: {per: [variant, dataset], metric: val/top1, rule: best_val}
  final: {fit: train, score: test}
"""


def test_tune_cells_compete_and_never_score_test():
    suite = loads(SUITE)
    cells = list(suite.cells())
    assert len(cells) == 3 * 2 * (2 * 2) * 2  # variants x data sets x grid x tune seeds
    assert {cell.stage for cell in cells} == {"tune"}
    assert {cell.spec.train["score"] for cell in cells} == {"none"}
    assert {cell.spec.train["select_epoch"] for cell in cells} == {"best_val"}
    assert {cell.spec.seed for cell in cells} == {5, 6}
    assert set(cells[0].axes) >= {"train.lr", "train.weight_decay"}


def test_groups_hold_every_candidate_with_its_seeds():
    suite = loads(SUITE)
    groups = suite.groups()
    assert [group.key for group in groups] == [
        {"variant": variant, "dataset": dataset}
        for dataset in ("mnist", "digits")
        for variant in ("linear", "lora[rank=2]", "lora[rank=4]")
    ]
    assert {len(group.candidates) for group in groups} == {4}
    run_ids = [run for g in groups for c in g.candidates for run in c.run_ids]
    assert sorted(run_ids) == sorted(cell.spec.run_id for cell in suite.cells())
    assert [c.settings for c in groups[0].candidates] == [
        {"lr": lr, "weight_decay": decay} for lr in (1e-3, 1e-2) for decay in (0.0, 1e-4)
    ]
    by_id = {cell.spec.run_id: cell.spec for cell in suite.cells()}
    for candidate in groups[1].candidates:
        specs = [by_id[run] for run in candidate.run_ids]
        assert [spec.seed for spec in specs] == [5, 6]
        assert {spec.config_id for spec in specs} == {candidate.config_id}
        assert candidate.trainable_params == trainable_params(specs[0].trial())


def test_finals_are_the_winners_settings_over_the_suites_seeds():
    suite = loads(SUITE)
    group = suite.groups()[1]
    winner = group.candidates[2]
    finals = group.finals(winner)
    assert group.final_count == len(finals) == 3
    assert [cell.spec.seed for cell in finals] == [0, 1, 2]
    for cell in finals:
        assert cell.stage == "final"
        assert cell.selected_from == winner.config_id
        assert (cell.spec.train["lr"], cell.spec.train["weight_decay"]) == (1e-2, 0.0)
        assert (cell.spec.train["score"], cell.spec.train["fit"]) == ("test", "train")
        assert cell.spec.variant == "lora[rank=2]"
        assert cell.axes["train.lr"] == "0.01"


def test_a_final_is_the_run_of_a_plain_grid():
    group = loads(SUITE).groups()[1]
    finals = {cell.spec.run_id for cell in group.finals(group.candidates[2])}
    plain = loads("""
{schema: 1, suite: plain, backbone: vit_tiny_fashion, methods: [{name: lora, rank: 2}],
 datasets: [mnist], seeds: 3, train: {epochs: 2, lr: 0.01, weight_decay: 0}}
""")
    assert {cell.spec.run_id for cell in plain.cells()} == finals


def test_training_on_all_scores_the_last_epoch():
    suite = loads(SUITE, overrides=["protocol.final.fit=train+val"])
    group = suite.groups()[0]
    train = group.finals(group.candidates[0])[0].spec.train
    assert (train["fit"], train["select_epoch"], train["score"]) == (
        "train+val",
        "last_epoch",
        "test",
    )


def test_variants_compete_where_only_the_method_is_named():
    suite = loads(SUITE, overrides=["protocol.select.per=[method, dataset]"])
    groups = suite.groups()
    assert [group.key["method"] for group in groups] == ["linear", "lora"] * 2
    assert [len(group.candidates) for group in groups] == [4, 8, 4, 8]
    winner = groups[1].candidates[7]
    assert {cell.spec.variant for cell in groups[1].finals(winner)} == {"lora[rank=4]"}


def test_an_override_gives_a_method_its_own_candidates():
    suite = loads(SUITE + "overrides: [{when: {method: linear}, train: {lr: [0.1, 0.2, 0.3]}}]")
    assert [len(group.candidates) for group in suite.groups()] == [6, 4, 4] * 2


def problems(change, **options):
    with pytest.raises(SuiteError) as caught:
        loads(change, **options)
    return [(p.line, p.path, p.message) for p in caught.value.problems]


@pytest.mark.parametrize("metric", ["test/top1", "train/top1", "top1", "test/val/top1"])
def test_selecting_on_anything_but_validation_is_refused(metric):
    found = problems(SUITE.replace("val/top1", metric))
    assert [entry[:2] for entry in found] == [(11, "protocol.select.metric")]
    assert "val/top1" in found[0][2]


@pytest.mark.parametrize(
    ("old", "new", "line", "path"),
    [
        ("rule: best_val", "rule: oracle_test", 11, "protocol.select.rule"),
        ("score: test", "score: val", 12, "protocol.final.score"),
        ("per: [variant, dataset]", "per: [variant]", 11, "protocol.select.per"),
        ("{epochs: 2}", "{epochs: 2, lr: 0.1}", 8, "train.lr"),
        ("{epochs: 2}", "{epochs: 2, select_epoch: last_epoch}", 8, "train.select_epoch"),
        ("lr: [1e-3, 1e-2]", "score: none", 10, "protocol.tune.grid.score"),
        ("grid: {", "gird: {", 10, "protocol.tune.gird"),
        ("lr: [1e-3, 1e-2]", "lr: []", 10, "protocol.tune.grid.lr"),
        ("seeds: [5, 6]", "seeds: 0", 10, "protocol.tune.seeds"),
        ("seeds: 3", "seeds: 3\nexclude: [{seed: 1}]", 8, "exclude[0]"),
        ("seeds: 3", "seeds: 3\ngrids: [{seeds: 1}]", 8, "grids"),
        (
            "backbone: vit_tiny_fashion",
            "backbones: [vit_tiny_fashion, vit_small14_focus]",
            11,
            "protocol.select",
        ),
    ],
)
def test_what_makes_no_sense_with_a_protocol(old, new, line, path):
    assert old in SUITE
    assert (line, path) in [entry[:2] for entry in problems(SUITE.replace(old, new, 1))]


def test_several_backbones_are_selected_apart():
    text = SUITE.replace(
        "backbone: vit_tiny_fashion", "backbones: [vit_tiny_fashion, vit_small14_focus]"
    )
    suite = loads(text, overrides=["protocol.select.per=[variant, dataset, backbone]"])
    assert len(suite.groups()) == 2 * 2 * 3


LABELLED = SUITE.replace("rank: [2, 4]}", "rank: 2, label: small_lora}")


def test_a_label_is_an_axis_of_tune_cells_and_finals_and_no_part_of_identity():
    plain = loads(SUITE.replace("rank: [2, 4]}", "rank: 2}"))
    suite = loads(LABELLED)
    assert [c.spec.run_id for c in suite.cells()] == [c.spec.run_id for c in plain.cells()]
    labels = {cell.spec.method: cell.axes.get("label") for cell in suite.cells()}
    assert labels == {"linear": None, "lora": "small_lora"}
    group = suite.groups()[1]
    assert {c.axes["label"] for c in group.finals(group.candidates[0])} == {"small_lora"}


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ("[{name: lora, label: a}, {name: linear, label: a}]", "which another entry has"),
        ("[{name: lora, label: 'a b'}]", "allowed: letters, digits"),
        (
            "[{combine: [{name: lora, label: a, targets: [q]}, {name: miss, targets: [v]}]}]",
            "label",
        ),
    ],
)
def test_a_label_is_one_word_of_one_whole_entry(methods, said):
    found = problems(SUITE, overrides=[f"methods={methods}"])
    assert any(said in message for _, _, message in found)
