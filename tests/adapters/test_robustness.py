"""Models between the start and the end of a run."""

import copy

import pytest
import torch

from adapters import registry
from adapters.errors import DataError
from adapters.robustness import Images, TrainedRun, no_path
from adapters.saved import to_bytes
from adapters.spec import TrainConfig, TrialSpec
from adapters.trial import build
from adapters.warm import Pixels, Warm
from results.metrics import all_metrics

CLASSES = 16
METRICS = {name: module.compute for name, module in all_metrics().items()}
ON_A_PATH = [name for name in registry.names("methods") if no_path(name) is None]


@pytest.fixture(scope="module")
def warm():
    return Warm(torch.device("cpu"))


@pytest.fixture
def trained(warm, tmp_path):
    """A stored run of a method whose tensors were moved at random; the run and its model."""

    def make(method, head_init="default", **settings):
        config = registry.method(method).Config(**settings)
        dataset = registry.dataset("shapes_location").Config(train=32, val=16, test=32)
        spec = TrialSpec(
            backbone="vit_tiny_fashion",
            dataset="shapes_location",
            dataset_config=dataset,
            method=method,
            method_config=config,
            train=TrainConfig(head_init=head_init),
        )
        adapted = build(spec, CLASSES, warm)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in adapted.trainable_parameters.values():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        path = tmp_path / "model.safetensors"
        path.write_bytes(to_bytes(adapted))
        return TrainedRun(spec, path, warm), adapted.vit.eval()

    return make


def images():
    pixels = torch.randint(0, 256, (24, 3, 28, 28), generator=torch.Generator().manual_seed(2))
    return Images(name="x", pixels=Pixels(pixels.to(torch.uint8), torch.arange(24) % CLASSES))


def logits(run, mode, alpha, given=None):
    return torch.from_numpy(run.score(given or images(), mode, alpha, METRICS).predictions.logits)


@pytest.mark.parametrize("method", ON_A_PATH)
def test_the_ends_of_the_path_are_the_zero_shot_and_the_trained_model(trained, method):
    run, model = trained(method)
    with torch.inference_mode():
        stored = model(run.normalise(images().pixels.pixels))
    assert torch.equal(logits(run, "trained", 1.0), stored)
    assert torch.equal(logits(run, "all", 1.0), stored)
    start = logits(run, "zero_shot", 0.0)
    assert torch.equal(logits(run, "all", 0.0), start)
    # Nearly at the ends it is nearly the same: the path is one, and leaves no trace.
    torch.testing.assert_close(logits(run, "all", 1e-6), start, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(logits(run, "all", 1 - 1e-6), stored, rtol=1e-3, atol=1e-3)
    assert torch.equal(logits(run, "zero_shot", 0.0), start)
    assert torch.equal(logits(run, "trained", 1.0), stored)


@torch.no_grad()
def test_half_of_a_low_rank_increment_is_half_of_the_increment_and_of_the_heads_way(trained):
    run, model = trained("lora", rank=2)
    start = dict(run._plain.named_parameters())
    halved = copy.deepcopy(model)
    for name, parameter in halved.named_parameters():
        if name.endswith("adapter.B"):
            parameter *= 0.5
        if name.startswith("head."):
            parameter.lerp_(start[name], 0.5)
    found = logits(run, "all", 0.5)
    expected = halved(run.normalise(images().pixels.pixels))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_half_of_a_full_fine_tuning_is_half_way_for_every_tensor(trained):
    run, model = trained("full")
    start = dict(run._plain.named_parameters())
    half = copy.deepcopy(model)
    for name, parameter in half.named_parameters():
        parameter.copy_((parameter + start[name]) / 2)
    expected = half(run.normalise(images().pixels.pixels))
    torch.testing.assert_close(logits(run, "all", 0.5), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_half_of_an_adapter_is_half_of_its_output(trained):
    run, model = trained("adaptformer", bottleneck=4)
    start = dict(run._plain.named_parameters())
    half = copy.deepcopy(model)
    for name, parameter in half.named_parameters():
        if ".up." in name:
            parameter *= 0.5
        if name.startswith("head."):
            parameter.lerp_(start[name], 0.5)
    expected = half(run.normalise(images().pixels.pixels))
    torch.testing.assert_close(logits(run, "all", 0.5), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_in_mode_head_the_method_stays_on(trained):
    run, model = trained("vpt_deep", prompts=2)
    half = copy.deepcopy(model)
    start = dict(run._plain.named_parameters())
    for name, parameter in half.named_parameters():
        if name.startswith("head."):
            parameter.copy_(start[name])
    expected = half(run.normalise(images().pixels.pixels))
    torch.testing.assert_close(logits(run, "head", 0.0), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["vpt_deep", "vpt_shallow", "vqt", "lora+vpt_deep"])
def test_prompts_have_no_path(method):
    assert no_path(method) == f"{method}: neither merges nor has an output that could be scaled"


def test_combinations_have_a_path_where_all_their_parts_have():
    assert no_path("lora+ssf") is None
    assert no_path("adapter+convpass") is None
    assert no_path("lora+adapter") is not None


def test_a_set_of_some_classes_is_scored_on_these_alone(trained):
    run, _ = trained("linear")
    every = images()
    few = Images(
        name="few", pixels=Pixels(every.pixels.pixels, torch.arange(24) % 2), classes=[3, 9]
    )
    scored = run.score(few, "trained", 1.0, METRICS)
    assert scored.predictions.logits.shape == (24, 2)
    assert torch.equal(
        torch.from_numpy(scored.predictions.logits), logits(run, "trained", 1.0)[:, [3, 9]]
    )


def test_a_set_with_more_classes_than_the_run_is_refused(trained):
    run, _ = trained("linear")
    pixels = images().pixels.pixels
    other = Images(name="other", pixels=Pixels(pixels, torch.arange(24)))
    with pytest.raises(
        DataError, match="set other: label 23 given, but the run on shapes_location"
    ):
        run.score(other, "trained", 1.0, METRICS)


def test_class_means_classify_by_the_nearest_mean(trained, warm):
    run, _ = trained("linear", head_init="class_means")
    data = warm.data("shapes_location", run.spec.dataset_config, _info())
    with torch.inference_mode():
        features = warm.frozen("vit_tiny_fashion")(run.normalise(data.train.pixels))
        tested = warm.frozen("vit_tiny_fashion")(run.normalise(data.test.pixels))
    means = torch.stack([features[data.train.labels == c].mean(0) for c in range(CLASSES)])
    nearest = torch.cdist(tested, means).argmin(1)
    found = logits(run, "zero_shot", 0.0, Images(name="own", pixels=data.test)).argmax(1)
    assert (found == nearest).float().mean() > 0.96


def _info():
    from adapters import backbones

    return backbones.describe("vit_tiny_fashion")
