"""Method settings that depend on how long a run is are checked when a suite is loaded."""

import pytest

from suites.load import SuiteError, loads

SUITE = """
schema: 1
suite: length
backbone: vit_tiny_fashion
methods:
  - {name: adamss, total_rank: 100, subspaces: 10, subspace_rank: 3, asa: ASA}
  - linear
datasets: [{name: mnist, train: 200, val: 56}]
train: {batch_size: 10, epochs: 10}
"""


def suite(asa, *, text=SUITE, **options):
    return loads(text.replace("ASA", asa), **options)


def problems(asa, **options):
    with pytest.raises(SuiteError) as caught:
        suite(asa, **options)
    return [(p.line, p.path, p.message) for p in caught.value.problems]


def test_asa_is_settings_in_settings_and_lists_in_it_are_axes():
    found = suite("{target_subspaces: [90, 60], final_warmup: 0.8}")
    assert [cell.spec.variant for cell in found.cells()] == [
        "adamss[subspaces=10,subspace_rank=3,asa.target_subspaces=90,asa.final_warmup=0.8]",
        "adamss[subspaces=10,subspace_rank=3,asa.target_subspaces=60,asa.final_warmup=0.8]",
        "linear",
    ]
    asa = next(found.cells()).spec.trial().method_config.asa
    assert (asa.target_subspaces, asa.final_warmup, asa.mask_interval) == (90, 0.8, 100)


def test_a_schedule_that_ends_behind_the_run_is_refused_where_the_method_stands():
    ((line, path, message),) = problems("{}")
    assert (line, path) == (6, "methods[0]")
    assert message.startswith("on mnist: asa.final_warmup: 1000 given, with the last mask at step")
    assert "of a run of 200 steps" in message


@pytest.mark.parametrize(
    ("override", "steps"),
    [("train.epochs=7", 140), ("train.batch_size=14", 150), ("datasets[0].train=150", 150)],
)
def test_the_length_is_that_of_epochs_batches_and_images(override, steps):
    asa = "{final_warmup: 199, mask_interval: 199}"
    suite(asa)
    ((_, _, message),) = problems(asa, overrides=[override])
    assert f"for a run of {steps} steps" in message


def test_every_cell_is_checked_and_each_length_told_once():
    asa = "{target_subspaces: [20, 30], final_warmup: 180, mask_interval: 60}"
    found = problems(asa, overrides=["train.epochs=[8, 9, 10]", "train.lr=[0.1, 0.2]"])
    assert [message.partition(" steps")[0][-3:] for *_, message in found] == ["160", "180"]


def test_an_excluded_cell_is_not_checked():
    suite("{}", text=SUITE + "exclude: [{method: adamss}]\n")


PROTOCOL = """
protocol:
  tune: {grid: {epochs: [EPOCHS]}}
  final: {fit: train+val}
"""


def test_finals_are_checked_with_their_own_length():
    """200 tuning steps, but 256 images and 260 steps in the finals: a fraction comes too late."""
    text = SUITE.replace(", epochs: 10", "") + PROTOCOL
    asa = "{init_warmup: 0.4, final_warmup: 100}"
    ((_, _, message),) = problems(asa, text=text.replace("EPOCHS", "10"))
    assert "asa.init_warmup: 0.4 given, which is step 104 of a run of 260 steps" in message
    suite(asa, text=text.replace("EPOCHS", "9"))


def test_a_target_above_what_the_backbone_has_is_refused():
    ((line, path, message),) = problems("{target_subspaces: 121, final_warmup: 0.8}")
    assert (line, path) == (6, "methods[0]")
    assert (
        "on vit_tiny_fashion: asa.target_subspaces: 121 given, allowed: at most the 120" in message
    )


def test_drop_last_that_leaves_no_step_is_refused():
    text = SUITE.replace("batch_size: 10", "batch_size: 201, drop_last: true")
    ((_, _, message),) = problems("{final_warmup: 0.8}", text=text)
    assert message.startswith("on mnist: batch_size: 201 given with drop_last, allowed: at most")
