"""Axes, overrides, excludes and grids: which cells a suite has, and in which order."""

import pytest

from suites.load import SuiteError, loads

HEAD = """
schema: 1
suite: expand
backbone: vit_tiny_fashion
datasets: [mnist]
"""


def cells(text, **options):
    return list(loads(HEAD + text, **options).cells())


def variants(text):
    return [cell.spec.variant for cell in cells(text)]


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ("targets: [q, v]", 1),
        ("targets: [[q, v]]", 1),
        ("targets: [[q, v], [qkv]]", 2),
        ("targets: all", 1),
        ("targets: [[q, v], all]", 2),
        ("targets: [all, [qkv, proj, fc1, fc2]]", 1),
        ("blocks: [0, 1]", 1),
        ("blocks: [[0], [1, 0], null]", 3),
        ("rank: 4", 1),
        ("rank: [1, 4, 8]", 3),
        ("rank: [1, 4], alpha: [1, 2, 3], targets: [[q], [v]]", 12),
        ("rank: [4, 4, 4.0]", 1),
        ("rank: [[4, 8]], targets: [q, v]", 1),
        ("rank: [4, [4, 8]], targets: [q, v]", 2),
    ],
)
def test_what_a_list_means_for_lora(settings, count):
    assert len(variants(f"methods: [{{name: lora, {settings}}}]")) == count


def test_a_rank_per_target_is_labelled_in_the_order_of_the_targets():
    given = "methods: [{name: lora, rank: [[4, 8], [8, 8]], targets: [%s]}]"
    assert variants(given % "q, v") == ["lora[rank=4x8,targets=q+v]", "lora[rank=8,targets=q+v]"]
    assert variants(given % "v, q")[0] == "lora[rank=8x4,targets=q+v]"


def test_a_list_in_the_list_is_one_rank():
    assert variants("methods: [{name: tucker3, rank: [4, [3, 8, 8]]}]") == [
        "tucker3[rank=4]",
        "tucker3[rank=3x8x8]",
    ]
    assert variants("methods: [{name: tucker3, rank: [[3, 8, 8]]}]") == ["tucker3[rank=3x8x8]"]


def test_cells_follow_the_axes_and_seeds_change_fastest():
    found = cells("methods: [linear, full]\nseeds: 2\ntrain: {lr: [1e-3, 0.01]}")
    assert [(c.axes["method"], c.axes["train.lr"], c.axes["seed"]) for c in found] == [
        (method, lr, seed)
        for method in ("linear", "full")
        for lr in ("0.001", "0.01")
        for seed in ("0", "1")
    ]
    assert found[0].axes == {
        "backbone": "vit_tiny_fashion",
        "dataset": "mnist",
        "method": "linear",
        "seed": "0",
        "train.lr": "0.001",
    }
    assert {c.stage for c in found} == {"single"}
    assert {c.selected_from for c in found} == {None}


def test_seeds_are_a_count_or_a_list():
    assert [c.spec.seed for c in cells("methods: [linear]\nseeds: 3")] == [0, 1, 2]
    assert [c.spec.seed for c in cells("methods: [linear]\nseeds: [7, 5, 7]")] == [7, 5]
    assert [c.spec.seed for c in cells("methods: [linear]")] == [0]


def test_data_settings_are_axes_too():
    found = list(
        loads(
            "{schema: 1, suite: a, backbones: [vit_tiny_fashion, vit_small14_focus], "
            "methods: [linear], datasets: [mnist, {name: digits, train: [50, 100]}]}"
        ).cells()
    )
    assert [(c.axes["backbone"], c.axes["dataset"]) for c in found] == [
        (backbone, dataset)
        for backbone in ("vit_tiny_fashion", "vit_small14_focus")
        for dataset in ("mnist", "digits[train=50]", "digits[train=100]")
    ]


def test_the_same_cell_in_two_suites_is_the_same_run():
    first = {c.spec.run_id for c in cells("methods: [linear, full]\nseeds: 2")}
    second = {
        c.spec.run_id
        for c in cells("methods: [{name: full}]\nseeds: [1]\nresources: {cpus: 2}\nquestion: why")
    }
    assert second < first


def test_overrides_apply_in_order_and_replace_an_axis():
    found = cells("""
methods: [linear, full, {name: lora, rank: 2}]
seeds: 2
train: {lr: [1e-3, 1e-2], epochs: 3}
overrides:
  - {when: {method: [full, linear]}, train: {lr: 1e-5, epochs: 4}}
  - {when: {method: linear, seed: 1}, train: {epochs: 5}}
""")
    assert [
        (c.spec.method, c.spec.seed, c.spec.train["lr"], c.spec.train["epochs"]) for c in found
    ] == [
        ("linear", 0, 1e-5, 4),
        ("linear", 1, 1e-5, 5),
        ("full", 0, 1e-5, 4),
        ("full", 1, 1e-5, 4),
        ("lora", 0, 1e-3, 3),
        ("lora", 1, 1e-3, 3),
        ("lora", 0, 1e-2, 3),
        ("lora", 1, 1e-2, 3),
    ]
    assert found[0].axes["train.epochs"] == "4"


def test_an_override_may_open_an_axis():
    found = cells("""
methods: [linear, full]
overrides:
  - {when: {dataset: mnist, method: full}, train: {lr: [1e-5, 1e-4]}}
""")
    assert [c.spec.train["lr"] for c in found] == [1e-3, 1e-5, 1e-4]


def test_excludes_take_cells_out():
    found = cells("""
methods: [linear, full]
seeds: 3
exclude:
  - {method: full, seed: [1, 2]}
  - {seed: 0, method: linear}
""")
    assert [(c.spec.method, c.spec.seed) for c in found] == [
        ("linear", 1),
        ("linear", 2),
        ("full", 0),
    ]


def test_a_suite_is_the_union_of_its_grids():
    found = cells("""
train: {epochs: 2, lr: 0.1}
seeds: 2
grids:
  - {methods: [linear, full]}
  - {methods: [full], train: {lr: 0.2}, seeds: [0]}
  - {methods: [full], datasets: [mnist], seeds: 3}
""")
    assert [(c.spec.method, c.spec.seed, c.spec.train["lr"]) for c in found] == [
        ("linear", 0, 0.1),
        ("linear", 1, 0.1),
        ("full", 0, 0.1),
        ("full", 1, 0.1),
        ("full", 0, 0.2),
        ("full", 2, 0.1),
    ]
    assert {c.spec.train["epochs"] for c in found} == {2}


def test_a_thing_excluded_need_not_fit(monkeypatch):
    from adapters import registry

    def count(config, dims):
        if dims.width > 200:
            raise ValueError("rank: too wide")
        return 1

    text = """
{schema: 1, suite: a, backbones: [vit_tiny_fashion, vit_small14_focus], datasets: [mnist],
 methods: [linear, {name: lora, rank: 2}]%s}
"""
    monkeypatch.setattr(registry.method("lora"), "count", count)
    with pytest.raises(SuiteError) as caught:
        loads(text % "")
    assert str(caught.value) == "<text>:3:20: methods[1]: on vit_small14_focus: rank: too wide"
    suite = loads(text % ", exclude: [{method: lora, backbone: vit_small14_focus}]")
    assert len(list(suite.cells())) == 3


def test_settings_from_the_command_line():
    text = "methods: [linear, {name: lora, rank: 2}]\ntrain: {epochs: 3}"
    options = ["train.epochs=1", "methods[1].rank=[4, 8]", "resources.cpus=2", "seeds=[3]"]
    suite = loads(HEAD + text, overrides=options)
    assert [(c.spec.variant, c.spec.train["epochs"], c.spec.seed) for c in suite.cells()] == [
        ("linear", 1, 3),
        ("lora[rank=4]", 1, 3),
        ("lora[rank=8]", 1, 3),
    ]
    assert suite.resources.cpus == 2
    assert suite.overrides == tuple(options)
    assert suite.text == HEAD + text
    assert suite.digest != loads(HEAD + text).digest


def test_fixed_parts_and_their_defaults():
    suite = loads(HEAD + "methods: [linear]\nquestion: Does it work?")
    assert (suite.name, suite.question, suite.protocol) == ("expand", "Does it work?", None)
    assert (suite.resources.gpus, suite.resources.cpus) == ("auto", 1)
    assert (suite.execution.runs_per_job, suite.execution.max_parallel) == ("unlimited", "auto")
    assert suite.groups() == []
    suite = loads(
        HEAD
        + "methods: [linear]\nresources: {gpus: 0.5}\nexecution: {runs_per_job: 1, max_parallel: 2}"
    )
    assert suite.resources.gpus == 0.5
    assert (suite.execution.runs_per_job, suite.execution.max_parallel) == (1, 2)


def test_a_method_that_a_backbone_of_another_family_cannot_take_is_refused_by_name():
    text = """
{schema: 1, suite: a, backbone: eva02_tiny_patch14_224, datasets: [mnist],
 methods: [mlp, {name: lora, targets: [fc1, proj]}, vqt, cp, {name: lora, targets: all}]}
"""
    with pytest.raises(SuiteError) as caught:
        loads(text)
    lines = str(caught.value).splitlines()
    on = "on eva02_tiny_patch14_224.mim_in22k: "
    assert [line.partition(on)[2].partition(":")[0] for line in lines] == ["vqt", "cp", "lora"]
