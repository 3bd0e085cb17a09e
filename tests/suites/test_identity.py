"""What changes a run's id and what does not."""

import dataclasses
import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import backbones, registry
from adapters.methods._asa import Asa
from adapters.spec import TrainConfig, TrialSpec
from adapters.text_embeddings import TextHeadConfig
from suites import spec as identity
from suites.load import loads
from suites.spec import RunSpec, label, run_spec, trainable_params

BASE = TrialSpec(
    backbone="vit_tiny_fashion",
    dataset="mnist",
    dataset_config=registry.dataset("mnist").Config(),
    method="lora",
    method_config=registry.method("lora").Config(rank=4, targets=("q", "v")),
    seed=1,
)

# One other value for every field of the recipe, the data set and the method.
OTHER_TRAIN = {
    "epochs": 6,
    "batch_size": 65,
    "optimizer": "sgd",
    "lr": 0.0011,
    "head_lr": 0.001,
    "weight_decay": 0.0,
    "schedule": "linear",
    "warmup_epochs": 0.5,
    "label_smoothing": 0.1,
    "head_init": "zero",
    "precision": "bf16",
    "drop_last": True,
    "momentum": 0.8,
    "betas": (0.9, 0.99),
    "layer_decay": 0.75,
    "decay": "no_bias_norm",
    "schedule_unit": "epoch",
    "min_lr": 1e-5,
    "warmup_lr": 1e-6,
    "clip_grad_norm": 1.0,
    "mixup": 0.2,
    "cutmix": 1.0,
    "mix_prob": 0.5,
    "flip": True,
    "vflip": True,
    "random_crop": 0.8,
    "randaugment": 9.0,
    "randaugment_ops": 3,
    "erasing": 0.25,
    "drop_path": 0.1,
    "ema": 0.99,
    "text_head": TextHeadConfig(file="a", digest="a" * 64, dim=8),
    "compile": True,
    "eval_every_epochs": 2,
    "early_stopping": 5,
    "select_epoch": "last_epoch",
    "score": "none",
}
OTHER_DATA = {"train": 801, "val": 201, "test": 1001, "split_seed": 1}
OTHER_METHOD = {
    "rank": 5,
    "alpha": 9.0,
    "rank_stabilised": True,
    "dropout": 0.1,
    "targets": ("q", "k"),
    "init": "gaussian",
    "blocks": (0, -1),
}
CHANGES = [
    *(("train", {name: value}) for name, value in OTHER_TRAIN.items()),
    ("train", {"select_epoch": "last_epoch", "fit": "train+val"}),
    *(("dataset_config", {name: value}) for name, value in OTHER_DATA.items()),
    *(("method_config", {name: value}) for name, value in OTHER_METHOD.items()),
]


def changed(part, values):
    return dataclasses.replace(BASE, **{part: dataclasses.replace(getattr(BASE, part), **values)})


def ids(specs):
    return {spec.run_id for spec in specs}


def test_every_field_of_the_science_changes_the_id():
    fields = {item.name for item in dataclasses.fields(TrainConfig)}
    assert fields == {*OTHER_TRAIN, "fit"}, "a new field needs another value here"
    trials = [
        BASE,
        *(changed(part, values) for part, values in CHANGES),
        dataclasses.replace(BASE, seed=2),
        dataclasses.replace(BASE, dataset="fashion_mnist"),
        dataclasses.replace(BASE, backbone="vit_small14_focus"),
        dataclasses.replace(
            BASE, method="vera", method_config=registry.method("vera").Config(rank=4)
        ),
    ]
    specs = [run_spec(trial) for trial in trials]
    assert len(ids(specs)) == len(trials)
    assert len({spec.config_id for spec in specs}) == len(trials) - 1  # all but the seed's


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (registry.dataset("mnist"), "DIGEST"),
        (registry.dataset("mnist"), "SEMANTICS"),
        (registry.method("lora"), "SEMANTICS"),
        (identity, "TRAINING_SEMANTICS"),
    ],
)
def test_digests_and_semantics_change_the_id(monkeypatch, module, name):
    before = run_spec(BASE)
    other = "0" * 64 if name == "DIGEST" else getattr(module, name) + 1
    monkeypatch.setattr(module, name, other)
    assert run_spec(BASE).run_id != before.run_id
    assert run_spec(BASE).variant_id == before.variant_id


@pytest.mark.parametrize(
    "values",
    [
        {"weights_digest": "0" * 64},
        {"semantics": 2},
        {"mean": (0.1, 0.5, 0.5)},
        {"std": (0.1, 0.5, 0.5)},
        {"interpolation": "nearest"},
        {"name": "another"},
    ],
)
def test_what_a_backbone_declares_changes_the_id(monkeypatch, values):
    before = run_spec(BASE)
    info = backbones.describe(BASE.backbone)
    monkeypatch.setattr(backbones, "describe", lambda name: dataclasses.replace(info, **values))
    assert run_spec(BASE).run_id != before.run_id


def test_spellings_of_the_same_targets_and_ranks_are_one_run():
    whole = ("qkv", "proj", "fc1", "fc2")
    for same, other in (
        ({"targets": "all"}, {"targets": whole}),
        ({"targets": "all", "rank": (1, 2, 3, 4)}, {"targets": whole[::-1], "rank": (4, 3, 2, 1)}),
        ({"rank": (4, 4)}, {"rank": 4}),
        ({"blocks": (-1, 0)}, {"blocks": (0, -1)}),
        ({"blocks": None}, {}),
    ):
        first, second = (run_spec(changed("method_config", values)) for values in (same, other))
        assert first.run_id == second.run_id
        assert first.trial() == second.trial() == changed("method_config", same)


def test_ids_are_sixteen_lower_case_base32_characters():
    spec = run_spec(BASE)
    for value in (spec.run_id, spec.config_id, spec.variant_id):
        assert len(value) == 16
        assert set(value) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_config_and_variant_group_runs():
    other_seed = run_spec(dataclasses.replace(BASE, seed=2))
    other_lr = run_spec(changed("train", {"lr": 0.5}))
    spec = run_spec(BASE)
    assert other_seed.config_id == spec.config_id
    assert other_lr.config_id != spec.config_id
    assert other_lr.variant_id == spec.variant_id == other_seed.variant_id
    assert run_spec(changed("method_config", {"alpha": 9.0})).variant_id != spec.variant_id


def test_whole_numbers_in_float_fields_are_floats():
    as_int = run_spec(changed("train", {"lr": 1, "weight_decay": 0}))
    as_float = run_spec(changed("train", {"lr": 1.0, "weight_decay": -0.0}))
    assert as_int.run_id == as_float.run_id
    assert '"lr": 1.0' in json.dumps(as_int.science)
    assert '"weight_decay": 0.0' in json.dumps(as_float.science)


def test_no_number_in_an_id_is_infinite_or_nan():
    broken = dataclasses.replace(BASE.train)
    object.__setattr__(broken, "lr", float("nan"))
    with pytest.raises(ValueError, match="lr: nan given"):
        run_spec(dataclasses.replace(BASE, train=broken))


def test_a_spec_gives_its_trial_back():
    spec = run_spec(BASE)
    assert spec.trial() == BASE
    assert run_spec(spec.trial()) == spec
    assert (spec.backbone, spec.dataset, spec.method, spec.seed) == (
        "vit_tiny_fashion",
        "mnist",
        "lora",
        1,
    )
    assert spec.params["targets"] == ["q", "v"]
    assert spec.train["epochs"] == 5


def test_science_travels_as_json():
    spec = run_spec(BASE)
    travelled = json.loads(json.dumps(spec.science))
    again = RunSpec(
        seed=travelled.pop("seed"),
        seedless=travelled,
        run_id=spec.run_id,
        config_id=spec.config_id,
        variant=spec.variant,
        variant_id=spec.variant_id,
    )
    assert again.trial() == BASE


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("linear", {}, "linear"),
        ("lora", {}, "lora[rank=8]"),
        ("lora", {"rank": 4, "targets": ("q", "v")}, "lora[rank=4,targets=q+v]"),
        ("lora", {"alpha": 16}, "lora[rank=8,alpha=16]"),
        ("lora", {"rank_stabilised": True}, "lora[rank=8,rank_stabilised=true]"),
        ("lora", {"dropout": 0.1}, "lora[rank=8,dropout=0.1]"),
        ("tucker3", {"rank": (3, 8, 8)}, "tucker3[rank=3x8x8]"),
        ("lora", {"rank": (4, 8), "targets": ("q", "v")}, "lora[rank=4x8,targets=q+v]"),
        ("ia3", {}, "ia3"),
        ("adamss", {"subspaces": 10}, "adamss[subspaces=10]"),
        ("adamss", {"asa": Asa()}, "adamss[asa=default]"),
        ("adamss", {"asa": Asa(target_subspaces=90)}, "adamss[asa.target_subspaces=90]"),
        (
            "adamss",
            {"total_rank": 50, "asa": Asa(final_warmup=0.8, scope="per_matrix")},
            "adamss[total_rank=50,asa.scope=per_matrix,asa.final_warmup=0.8]",
        ),
    ],
)  # fmt: skip
def test_labels_show_what_differs_from_the_defaults(name, values, expected):
    assert label(name, registry.method(name).Config(**values)) == expected


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 3
    rate: float = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner | None = None
    sizes: tuple[float, ...] = ()


def test_nested_settings_are_labelled_and_canonical():
    assert label("m", Outer()) == "m"
    assert label("m", Outer(inner=Inner(rate=1))) == "m[inner.rate=1]"
    assert label("m", Outer(inner=Inner())) == "m[inner=default]"
    first, second = (
        Outer(inner=Inner(rate=1), sizes=(1,)),
        Outer(inner=Inner(rate=1.0), sizes=(1.0,)),
    )
    assert identity._variant_id.__wrapped__("m", first) == identity._variant_id.__wrapped__(
        "m", second
    )


def test_a_nested_number_of_steps_is_one_run_however_it_is_spelled():
    def adamss(**asa):
        config = registry.method("adamss").Config(asa=Asa(**asa))
        return dataclasses.replace(BASE, method="adamss", method_config=config)

    trials = [adamss(), adamss(init_warmup=50.0), adamss(final_warmup=1e3, target_subspaces=50)]
    assert len(ids(map(run_spec, trials))) == 1
    assert run_spec(trials[1]).trial() == trials[0]
    others = [adamss(init_warmup=51), adamss(final_warmup=0.5), adamss(scope="per_matrix")]
    assert len(ids(map(run_spec, [trials[0], *others]))) == 4


def test_trainable_params_are_count_and_head():
    dims = backbones.describe(BASE.backbone).dims
    # q and v apart, each with A (4, d) and B (d, 4), in every block; ten classes.
    expected = dims.depth * 2 * 4 * 2 * dims.width + 10 * (dims.width + 1)
    assert trainable_params(BASE) == expected


# --- the same suite in other words -------------------------------------------------------------

DOCUMENT = {
    "schema": 1,
    "suite": "words",
    "backbone": "vit_tiny_fashion",
    "methods": [
        "linear",
        {"name": "lora", "rank": [1, 4], "alpha": 4.0, "targets": [["q", "v"], ["qkv"]]},
        {"name": "tucker3", "rank": [2, [3, 8, 8]]},
    ],
    "datasets": ["digits", {"name": "mnist", "train": [100, 200], "split_seed": 3}],
    "seeds": [0, 1],
    "train": {"epochs": 2, "lr": [1e-3, 0.02, 1.0], "warmup_epochs": 1.0, "schedule": "linear"},
}
IDS = ids(cell.spec for cell in loads(json.dumps(DOCUMENT)).cells())


def spelled(number, rng):
    exponent = f"{number:.6e}"
    ways = [repr(number), exponent, exponent.upper(), f"+{number!r}"]
    if number == int(number):
        ways += [str(int(number)), f"{int(number)}.", f"0x{int(number):x}"]
    return rng.choice(ways)


def written(value, rng, indent):
    """`value` as YAML, block or flow by chance, with keys shuffled and comments thrown in."""
    comment = rng.choice(["", "  # a comment: [1, 2]"])
    if isinstance(value, dict) and indent is not None and rng.random() < 0.7:
        lines = [
            f"{' ' * indent}{k}:{comment}\n{written(v, rng, indent + 2)}"
            for k, v in shuffled(value, rng)
        ]
        return "\n".join(lines)
    if isinstance(value, list) and indent is not None and rng.random() < 0.7:
        return "\n".join(f"{' ' * indent}-{comment}\n{written(v, rng, indent + 2)}" for v in value)
    if isinstance(value, dict):
        text = (
            "{" + ", ".join(f"{k}: {written(v, rng, None)}" for k, v in shuffled(value, rng)) + "}"
        )
    elif isinstance(value, list):
        text = "[" + ", ".join(written(v, rng, None) for v in value) + "]"
    elif isinstance(value, str):
        text = rng.choice([value, f"'{value}'", f'"{value}"'])
    else:
        text = spelled(value, rng)
    return text if indent is None else f"{' ' * indent}{text}{comment}"


def shuffled(mapping, rng):
    return rng.sample(list(mapping.items()), len(mapping))


def axes_shuffled(document, rng):
    """Every axis in another order; lists that are one value stay."""
    lora, tucker = dict(document["methods"][1]), dict(document["methods"][2])
    for method, axis in ((lora, "rank"), (lora, "targets"), (tucker, "rank")):
        method[axis] = rng.sample(method[axis], 2)
    mnist = document["datasets"][1] | {"train": rng.sample([100, 200], 2)}
    return document | {
        "methods": rng.sample(["linear", lora, tucker], 3),
        "datasets": rng.sample(["digits", mnist], 2),
        "seeds": rng.choice([2, [0, 1], [1, 0]]),
        "train": document["train"] | {"lr": rng.sample(document["train"]["lr"], 3)},
    }


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.randoms(use_true_random=False))
def test_style_and_order_change_no_id(rng):
    text = written(axes_shuffled(DOCUMENT, rng), rng, 0)
    cells = list(loads(text).cells())
    assert ids(cell.spec for cell in cells) == IDS
    assert len(cells) == len(IDS) == (1 + 4 + 2) * 3 * 2 * 3


def test_style_changes_no_digest():
    digests = {loads(written(DOCUMENT, random.Random(n), 0)).digest for n in range(5)}
    assert digests == {loads(json.dumps(DOCUMENT)).digest}
    assert loads(json.dumps(DOCUMENT | {"seeds": [0]})).digest not in digests
