"""The settings of a recipe: each changes what it says, by sums that can be checked by hand."""

import dataclasses
import math
import re
from pathlib import Path

import pytest
import torch
from timm.layers import DropPath
from torch import nn

import adapters
from adapters import registry
from adapters.spec import TrainConfig, TrialSpec
from adapters.training import fit as fitting
from adapters.training import mixing, randaugment, schedules, seeding
from adapters.training.augment import Augment, crop, random_crop
from adapters.training.averaging import Average
from adapters.training.building import build, set_drop_path
from adapters.training.fit import Fitter
from adapters.training.optim import layer_scales, optimizer_of
from adapters.training.progress import out_of_patience
from adapters.trial import run_trial
from adapters.warm import Pixels, Warm
from suites.load import loads

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
METRICS = {"top1": lambda logits, labels: float((logits.argmax(1) == labels).mean())}


class Silent:
    def step(self, epoch, step, steps):
        pass

    def epoch(self, row):
        pass


def spec(**train):
    data = registry.dataset("shapes_location")
    return TrialSpec(
        backbone="vit_tiny_fashion",
        dataset="shapes_location",
        dataset_config=data.Config(train=24, val=8, test=8),
        method="linear",
        method_config=registry.method("linear").Config(),
        train=TrainConfig(**({"epochs": 2, "batch_size": 16} | train)),
    )


def run(trial, warm, metrics=METRICS, **options):
    return run_trial(trial, metrics, warm=warm, observer=Silent(), **options)


@pytest.fixture(scope="module")
def warm():
    return Warm(CPU)


@pytest.fixture(scope="module")
def pixels():
    return torch.randint(
        0, 256, (6, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.fixture
def fitter(small_vit, pixels):
    """A Fitter of `lora` on a small ViT and six images, four a step: `fitter(micro_batch=1, ema=...)`."""

    def make(micro_batch=None, method="lora", **train):
        adapted = adapters.attach(small_vit(), method, **({"rank": 2} if method == "lora" else {}))
        images = Pixels(pixels, torch.arange(6) % 5)
        made = Fitter(
            adapted,
            images,
            train=TrainConfig(**({"epochs": 2, "batch_size": 4, "lr": 1e-2} | train)),
            seed=0,
            normalise=lambda pixels_B3SS: pixels_B3SS.float() / 128.0 - 1.0,
            micro_batch=micro_batch,
        )
        return adapted, made

    return make


def trained(made, **settings):
    """The epoch's numbers and the trained tensors after one epoch."""
    adapted, fitter = made(**settings)
    result = fitter.epoch(1, lambda step, steps: None)
    return result, {n: p.detach().clone() for n, p in adapted.trainable_parameters.items()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 1.0}, "momentum: 1.0 given"),
        ({"betas": (0.9, 1.0)}, "betas: "),
        ({"layer_decay": 0.0}, "layer_decay: 0.0 given"),
        ({"min_lr": 1.0}, "min_lr: 1.0 given, allowed: at most lr"),
        ({"min_lr": 1e-5, "schedule": "constant"}, "min_lr: 1e-05 given with schedule: constant"),
        ({"warmup_lr": 1.0}, "warmup_lr: 1.0 given"),
        ({"schedule": "osu_cosine"}, "schedule_unit: 'step' given"),
        ({"schedule_unit": "epoch", "warmup_epochs": 0.5}, "warmup_epochs: 0.5 given"),
        ({"clip_grad_norm": 0.0}, "clip_grad_norm: 0.0 given"),
        ({"mixup": -1.0}, "mixup: -1.0 given"),
        ({"mix_prob": 1.5}, "mix_prob: 1.5 given"),
        ({"random_crop": 0.0}, "random_crop: 0.0 given"),
        ({"randaugment": 11.0}, "randaugment: 11.0 given"),
        ({"randaugment_ops": 0}, "randaugment_ops: 0 given"),
        ({"erasing": 2.0}, "erasing: 2.0 given"),
        ({"drop_path": 1.0}, "drop_path: 1.0 given"),
        ({"ema": 1.0}, "ema: 1.0 given"),
        ({"eval_every_epochs": 0}, "eval_every_epochs: 0 given"),
        ({"early_stopping": 0}, "early_stopping: 0 given"),
        (
            {"early_stopping": 1, "fit": "train+val", "select_epoch": "last_epoch"},
            "early_stopping: 1 given with fit: train",
        ),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_osu_cosine_gives_the_studys_rates():
    train = TrainConfig(
        epochs=100,
        lr=1e-3,
        warmup_epochs=10,
        min_lr=1e-5,
        warmup_lr=1e-6,
        schedule="osu_cosine",
        schedule_unit="epoch",
    )
    epochs = {0: 1e-6, 1: 1e-6, 2: 1.009e-4, 10: 9.001e-4, 11: 9.75773e-4, 50: 5.20548e-4}
    for epoch, rate in (epochs | {99: 1.09768e-5}).items():
        for step in (0, 6):  # the first and the last of seven
            factor = schedules.factor_of(train, epoch * 7 + step, 7)
            assert factor * 1e-3 == pytest.approx(rate, rel=1e-5)


def test_a_cosine_per_epoch_with_a_floor_is_the_tlora_one():
    train = TrainConfig(epochs=20, lr=1e-4, min_lr=1e-6, schedule_unit="epoch")
    for epoch in (1, 2, 11, 20):
        expected = 1e-6 + (1e-4 - 1e-6) * (1 + math.cos(math.pi * (epoch - 1) / 20)) / 2
        assert schedules.factor_of(train, epoch * 9 - 1, 9) * 1e-4 == pytest.approx(expected)


def test_a_warmup_starts_where_it_is_told():
    values = [schedules.factor("linear", step, 8, 4, start=0.2) for step in range(5)]
    assert values == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_optimisers_take_momentum_and_betas(small_vit):
    adapted = adapters.attach(small_vit(), "linear")
    sgd = optimizer_of(adapted, TrainConfig(optimizer="sgd", momentum=0.5))
    adam = optimizer_of(adapted, TrainConfig(betas=(0.8, 0.99)))
    assert sgd.param_groups[0]["momentum"] == 0.5
    assert adam.param_groups[0]["betas"] == (0.8, 0.99)


def test_layer_decay_scales_rates_by_depth(small_vit):
    adapted = adapters.attach(small_vit(), "full")
    scales = layer_scales(adapted.vit, adapted.trainable_parameters, 0.5)
    wanted = {"cls_token": 4, "pos_embed": 4, "patch_embed.proj.weight": 4, "norm.weight": 0}
    wanted |= {"blocks.0.attn.qkv.weight": 3, "blocks.2.mlp.fc1.bias": 1, "head.weight": 0}
    assert {name: scales[name] for name in wanted} == {n: 0.5**p for n, p in wanted.items()}
    optimizer = optimizer_of(adapted, TrainConfig(lr=1.0, head_lr=2.0, layer_decay=0.5))
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    parameters = adapted.trainable_parameters
    assert rates[id(parameters["blocks.0.norm1.weight"])] == 0.125
    assert rates[id(parameters["head.bias"])] == 2.0


def test_tensors_that_blocks_share_train_at_the_full_rate(small_vit):
    adapted = adapters.attach(small_vit(), "fact_tt")
    scales = layer_scales(adapted.vit, adapted.adapter_parameters, 0.5)
    assert scales["fact_tt.U"] == 1.0
    shared = nn.Parameter(torch.zeros(2))
    for block in adapted.vit.blocks:
        block.register_parameter("shared", shared)
    assert layer_scales(adapted.vit, {"blocks.0.shared": shared}, 0.5) == {"blocks.0.shared": 1.0}


def test_no_bias_norm_spares_biases_and_flat_tensors(small_vit):
    adapted = adapters.attach(small_vit(), "full")
    names = {id(p): n for n, p in adapted.trainable_parameters.items()}
    optimizer = optimizer_of(adapted, TrainConfig(decay="no_bias_norm", weight_decay=0.1))
    decays = {names[id(p)]: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    flat = {n for n, p in adapted.trainable_parameters.items() if p.ndim <= 1}
    assert {"head.bias", "blocks.0.norm1.weight"} <= flat
    assert {name for name, decay in decays.items() if decay == 0} == flat


def test_drop_path_rises_over_the_blocks_and_leaves_the_warm_backbone(warm):
    vit = build(spec(drop_path=0.2), 3, warm).vit
    depth = len(vit.blocks)
    rates = [getattr(b.drop_path2, "drop_prob", 0.0) for b in vit.blocks]
    assert rates == pytest.approx([0.2 * k / (depth - 1) for k in range(depth)])
    kept = warm.frozen("vit_tiny_fashion")
    assert not any(isinstance(module, DropPath) for module in kept.modules())


def test_drop_path_is_refused_where_blocks_have_no_place_for_it():
    vit = nn.Module()
    vit.blocks = nn.ModuleList([nn.Linear(1, 1)])
    with pytest.raises(ValueError, match=r"drop_path: 0.1 given on Linear, allowed: 0"):
        set_drop_path(vit, 0.1)


def test_trunc_normal_heads_start_tiny(warm):
    head = build(spec(head_init="trunc_normal"), 3, warm).vit.head
    assert float(head.weight.detach().std()) == pytest.approx(2e-5, rel=0.2)
    assert not head.bias.any()


def test_clipping_scales_the_gradients_and_not_the_norm_that_is_told(fitter):
    sgd = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}
    options = sgd | {"method": "linear", "lr": 1.0, "batch_size": 6}
    before = {n: p.detach() for n, p in fitter(**options)[0].trainable_parameters.items()}
    plain, _ = trained(fitter, **options)
    clipped, after = trained(fitter, **options, clip_grad_norm=1e-3)
    moved = math.sqrt(sum(float((after[n] - before[n]).square().sum()) for n in after))
    assert moved == pytest.approx(1e-3, rel=1e-2)
    assert clipped.grad_norm == plain.grad_norm > 1e-2


def test_drop_last_leaves_out_the_short_batch(fitter):
    for drop_last, expected in ((False, [2, 2]), (True, [1])):
        steps = []
        _, made = fitter(drop_last=drop_last)
        result = made.epoch(1, lambda step, of, steps=steps: steps.append(of))
        assert steps == expected
        assert made.images_per_epoch == (4 if drop_last else 6)
        assert 1.0 < result.loss < 4.0  # near log 5, not a fraction of it
    with pytest.raises(ValueError, match="batch_size: 7 given with drop_last"):
        TrainConfig(batch_size=7, drop_last=True).steps_per_epoch(6)


def test_a_mixed_image_is_the_weighted_sum_of_two():
    own, partner = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    mixed = mixing.Mix(ratio=0.75, box=None).images(own, partner)
    assert torch.equal(mixed, torch.full_like(own, 0.25))
    mixed = mixing.Mix(ratio=0.75, box=(0, 2, 1, 3)).images(own, partner)
    assert float(mixed.mean()) == 0.25
    assert mixed[0, 0, 0].tolist() == [0.0, 1.0, 1.0, 0.0]


def test_a_cutmix_ratio_is_the_area_that_is_left():
    train = TrainConfig(cutmix=1.0)
    for step in range(20):
        mix = mixing.draw(train, 28, seed=0, epoch=1, step=step)
        own = mix.images(torch.zeros(1, 3, 28, 28), torch.ones(1, 3, 28, 28))
        assert 1.0 - float(own.mean()) == pytest.approx(mix.ratio, abs=1e-6)


def test_mixing_draws_each_kind_as_often_as_it_should():
    train = TrainConfig(mixup=0.5, cutmix=0.5, mix_prob=0.5)
    mixes = [mixing.draw(train, 28, seed=0, epoch=1, step=step) for step in range(400)]
    done = [mix for mix in mixes if mix is not None]
    assert 160 < len(done) < 240
    assert 0.35 < sum(mix.box is None for mix in done) / len(done) < 0.65
    assert mixing.draw(TrainConfig(), 28, seed=0, epoch=1, step=0) is None


def test_the_heavier_label_counts_as_the_right_one():
    own, partner = torch.tensor([1]), torch.tensor([2])
    assert mixing.Mix(ratio=0.6, box=None).heavier(own, partner) is own
    assert mixing.Mix(ratio=0.4, box=None).heavier(own, partner) is partner


def test_a_batch_that_is_all_partner_is_right_where_the_partners_labels_are(fitter, monkeypatch):
    adapted, made = fitter(method="linear", batch_size=6, mixup=1.0)
    labels = torch.arange(6) % 5
    images = (labels * 40).to(torch.uint8).view(6, 1, 1, 1).expand(6, 3, 28, 28)
    made._images = Pixels(images, labels)

    def forward(x_B3SS):
        """The right label for an image of one grey, and a gradient of zero."""
        grey_B1 = x_B3SS[:, 0, 0, :1] * 128 + 128
        return adapted.vit.head.weight.sum() * 0 - (grey_B1 - 40 * torch.arange(5)).square()

    made._forward = forward
    monkeypatch.setattr(mixing, "draw", lambda *_, **__: mixing.Mix(ratio=0.0, box=None))
    result = made.epoch(1, lambda step, steps: None)
    assert (result.top1, result.loss) == (1.0, pytest.approx(0.0, abs=1e-6))


AUGMENTED = [
    {"mixup": 1.0},
    {"cutmix": 1.0},
    {"flip": True},
    {"vflip": True},
    {"random_crop": 0.3},
    {"randaugment": 9.0},
    {"randaugment": 9.0, "randaugment_ops": 4},
    {"erasing": 0.9},
]


@pytest.mark.parametrize("settings", AUGMENTED, ids=str)
def test_images_change_and_micro_batches_see_the_same_ones(fitter, settings):
    plain, _ = trained(fitter)
    whole, tensors = trained(fitter, **settings)
    split, others = trained(fitter, **settings, micro_batch=1)
    assert whole.loss != plain.loss
    assert split.loss == pytest.approx(whole.loss, rel=1e-5)
    for name, tensor in tensors.items():
        # Adam's first steps have the size of the rate however small a gradient is.
        torch.testing.assert_close(others[name], tensor, rtol=0, atol=1e-4)


def test_augmentation_depends_on_epoch_and_image_alone(pixels):
    train = TrainConfig(flip=True, random_crop=0.5, randaugment=9.0)
    augment = Augment(train, seed=3)
    whole = augment.pixels(pixels, 1, range(6))
    assert torch.equal(augment.pixels(pixels[[4, 1]], 1, [4, 1]), whole[[4, 1]])
    assert not torch.equal(augment.pixels(pixels, 2, range(6)), whole)
    assert not torch.equal(Augment(train, seed=4).pixels(pixels, 1, range(6)), whole)


@pytest.mark.parametrize(("setting", "axis"), [("flip", -1), ("vflip", -2)])
def test_flips_mirror_about_half_of_the_images(setting, axis, pixels):
    many = pixels[:1].expand(200, -1, -1, -1)
    out = Augment(TrainConfig(**{setting: True}), 0).pixels(many, 1, range(200))
    mirrored = [torch.equal(image, pixels[0].float().flip(axis)) for image in out]
    assert 70 < sum(mirrored) < 130
    assert all(
        m or torch.equal(image, pixels[0].float()) for m, image in zip(mirrored, out, strict=True)
    )


def test_crops_keep_to_the_area_and_the_whole_image_is_itself(pixels):
    rng = seeding.plain(0, "crops")
    for x, y, width, height in (random_crop(rng, 0.3) for _ in range(200)):
        assert 0.3 - 1e-9 <= width * height <= 1
        assert 3 / 4 - 1e-9 <= width / height <= 4 / 3 + 1e-9
        assert width / 2 <= x <= 1 - width / 2
        assert height / 2 <= y <= 1 - height / 2
    x = pixels[:1].float()
    torch.testing.assert_close(crop(x, [(0.5, 0.5, 1.0, 1.0)]), x, rtol=0, atol=1e-2)


def test_a_crop_takes_its_part_of_the_image():
    ramp = torch.arange(28.0).expand(1, 3, 28, 28)
    left = crop(ramp, [(0.25, 0.5, 0.5, 1.0)])
    assert float(left.mean()) == pytest.approx(6.5, abs=0.05)  # the mean of 0 to 13


def test_erasing_writes_noise_into_about_its_share_of_the_images():
    train = TrainConfig(erasing=0.25)
    out = Augment(train, 0).erase(torch.full((200, 3, 28, 28), 9.0), 1, range(200))
    erased = [image for image in out if (image != 9.0).any()]
    assert 30 < len(erased) < 70
    noise = torch.cat([image[image != 9.0] for image in erased])
    assert abs(float(noise.mean())) < 0.05
    assert float(noise.std()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("name", randaugment.NAMES)
def test_every_operation_of_randaugment_changes_an_image(name, pixels):
    x = pixels[:2].float() / 2 + 20
    assert not torch.equal(randaugment.OPS[name](x, torch.tensor([0.9, -0.9])), x)


def test_operations_of_randaugment_by_hand():
    strength = torch.tensor([1.0])
    x = torch.tensor([10.0, 200.0]).repeat_interleave(2).expand(1, 3, 4, 4)
    operations = randaugment.OPS
    assert operations["invert"](x, strength)[0, 0, 0].tolist() == [245, 245, 55, 55]
    assert operations["auto_contrast"](x, strength)[0, 0, 0].tolist() == [0, 0, 255, 255]
    assert operations["equalize"](x, strength)[0, 0, 0].tolist() == [0, 0, 255, 255]
    assert operations["solarize_add"](x, strength)[0, 0, 0].tolist() == [120, 120, 200, 200]
    assert operations["brightness"](x, -strength)[0, 0, 0].tolist() == pytest.approx([1, 1, 20, 20])
    assert operations["posterize"](x, strength / 2)[0, 0, 0].tolist() == [0, 0, 192, 192]
    assert operations["solarize"](x, strength / 2)[0, 0, 0].tolist() == [10, 10, 55, 55]


def test_patience_counts_worse_evaluations_only():
    scores = [50, 49, 50, 51, 51, 50, 50.5, 49]
    assert [out_of_patience(scores[:n], 3) for n in range(1, 9)] == [False] * 7 + [True]


def test_a_run_stops_when_its_patience_ends(warm):
    scores = iter([0.5, 0.4, 0.3, 0.9])
    metrics = {"top1": lambda logits, labels: next(scores)}
    result = run(spec(epochs=9, early_stopping=2), warm, metrics)
    assert [row.epoch for row in result.epochs if row.split == "train"] == [1, 2, 3]
    assert (result.best_epoch, result.scores["test/top1"]) == (1, 0.9)


def test_evaluations_come_every_nth_epoch_and_after_the_last(warm):
    result = run(spec(epochs=6, eval_every_epochs=3), warm)
    assert [row.epoch for row in result.epochs if row.split == "val"] == [1, 4, 6]


def test_an_average_is_the_weighted_sum_of_the_weights_so_far():
    parameters = {"w": nn.Parameter(torch.tensor([1.0]))}
    average = Average(parameters, 0.75)
    with torch.no_grad():
        parameters["w"].fill_(5.0)
    average.update()
    assert float(average.tensors["w"]) == 2.0
    with average.in_place():
        assert parameters["w"].tolist() == [2.0]
    assert parameters["w"].tolist() == [5.0]


@pytest.mark.parametrize("select", ["best_val", "last_epoch"])
def test_the_average_is_what_is_scored_and_handed_out(warm, select):
    kept = {}

    def keep(adapted):
        kept.update({n: p.detach().clone() for n, p in adapted.head_parameters.items()})

    options = {"epochs": 1, "lr": 0.1, "select_epoch": select}
    start = build(spec(**options), 16, warm).head_parameters
    start = {n: p.detach().clone() for n, p in start.items()}
    run(spec(**options, ema=0.999999), warm, on_model=keep)
    assert all(float((kept[n] - start[n]).abs().max()) < 1e-5 for n in start)
    run(spec(**options), warm, on_model=keep)
    assert all(float((kept[n] - start[n]).abs().max()) > 1e-3 for n in start)


def test_fp16_on_a_cpu_is_refused_before_the_first_step(warm):
    with pytest.raises(ValueError, match="precision: 'fp16' given on cpu, allowed: fp32, bf16"):
        run(spec(precision="fp16"), warm)


def test_a_scaled_loss_trains_as_an_unscaled_one_and_skips_what_overflows(fitter):
    plain, tensors = trained(fitter)
    adapted, made = fitter()
    made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaled = made.epoch(1, lambda step, steps: None)
    assert scaled.grad_norm == pytest.approx(plain.grad_norm, rel=1e-5)
    for name, parameter in adapted.trainable_parameters.items():
        torch.testing.assert_close(parameter.detach(), tensors[name], rtol=0, atol=1e-5)
    adapted, made = fitter()
    made.scaler = torch.amp.GradScaler("cpu", init_scale=1e38, growth_interval=1000)
    before = {n: p.detach().clone() for n, p in adapted.trainable_parameters.items()}
    assert made.epoch(1, lambda step, steps: None).grad_norm is None
    after = adapted.trainable_parameters
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_compiled_training_gives_the_same_numbers(fitter, monkeypatch):
    monkeypatch.setattr(fitting, "COMPILE_BACKEND", "aot_eager")
    plain, tensors = trained(fitter)
    compiled, others = trained(fitter, compile=True)
    assert compiled.loss == pytest.approx(plain.loss, rel=1e-5)
    for name, tensor in tensors.items():
        torch.testing.assert_close(others[name], tensor, rtol=0, atol=1e-4)


BLOCKS = re.findall(
    r"^## (.*?)$.*?```yaml\n(.*?)```",
    (ROOT / "docs" / "recipes.md").read_text(),
    re.DOTALL | re.MULTILINE,
)


@pytest.mark.parametrize(("study", "block"), BLOCKS, ids=[study for study, _ in BLOCKS])
def test_the_recipes_of_the_docs_load(study, block):
    text = (ROOT / "suites" / "quickstart.yaml").read_text()
    text = re.sub(r"^train:.*$", lambda _: block.rstrip(), text, flags=re.MULTILINE)
    trains = [cell.spec.trial().train for cell in loads(text).cells()]
    assert trains
    assert all(train != TrainConfig() for train in trains)


def test_the_docs_have_a_recipe_for_every_study_and_name_every_setting():
    text = (ROOT / "docs" / "recipes.md").read_text()
    studies = " ".join(study for study, _ in BLOCKS)
    for study in ("TLoRA", "AdaMSS", "MiSS", "adapters_ViTs", "VTAB-1K", "many-shot", "few-shot"):
        assert study in studies
    assert all(f"`{item.name}`" in text for item in dataclasses.fields(TrainConfig))
