"""Heads of text embeddings: what they compute, where they come from, and that nothing else changes."""

import hashlib
import sys
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from torch.nn import functional

from adapters import clip_text, registry, saved
from adapters.errors import DataError
from adapters.robustness import Images, TrainedRun
from adapters.saved import to_bytes
from adapters.spec import TrainConfig, TrialSpec
from adapters.text_embeddings import TextHeadConfig
from adapters.trial import build, run_trial
from adapters.warm import Pixels, Warm
from results.metrics import all_metrics
from suites.spec import run_spec, trainable_params

CLASSES, DIM = 16, 12
METRICS = {name: module.compute for name, module in all_metrics().items()}


class Silent:
    def step(self, epoch, step, steps):
        pass

    def epoch(self, row):
        pass


@pytest.fixture(scope="module")
def warm():
    return Warm(torch.device("cpu"))


@pytest.fixture
def tensors(warm):
    width = warm.frozen("vit_tiny_fashion").num_features
    generator = torch.Generator().manual_seed(0)
    return {
        "projection": torch.randn(DIM, width, generator=generator) / width**0.5,
        "weight": 10 * functional.normalize(torch.randn(CLASSES, DIM, generator=generator), dim=-1),
    }


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Write the file of a head below the data root; what a suite says of it."""
    monkeypatch.setenv("PEFTGRID_DATA", str(tmp_path))

    def call(tensors, **changed):
        data = safetensors.torch.save(tensors)
        (tmp_path / "head.safetensors").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        return TextHeadConfig(
            **{"file": "head.safetensors", "digest": digest, "dim": DIM} | changed
        )

    return call


def spec(head, method="lora", **train):
    return TrialSpec(
        backbone="vit_tiny_fashion",
        dataset="shapes_location",
        dataset_config=registry.dataset("shapes_location").Config(train=32, val=16, test=32),
        method=method,
        method_config=registry.method(method).Config(),
        train=TrainConfig(text_head=head, epochs=1, batch_size=16, lr=1e-2, **train),
    )


def images():
    pixels = torch.randint(0, 256, (24, 3, 28, 28), generator=torch.Generator().manual_seed(2))
    return Images(name="x", pixels=Pixels(pixels.to(torch.uint8), torch.arange(24) % CLASSES))


def test_logits_are_scaled_cosines_of_projected_features(warm, put, tensors):
    vit = build(spec(put(tensors)), CLASSES, warm).vit.eval()
    x_B3SS = torch.randn(5, 3, 28, 28)
    with torch.inference_mode():
        features_BD = functional.normalize(
            warm.frozen("vit_tiny_fashion")(x_B3SS) @ tensors["projection"].T, dim=-1
        )
        expected_BC = features_BD @ tensors["weight"].T
        assert torch.allclose(vit(x_B3SS), expected_BC, atol=1e-5)


@pytest.mark.parametrize("method", ["linear", "lora", "full", "bitfit"])
def test_all_of_it_is_trained_and_counted_as_the_head(warm, put, tensors, method):
    trial = spec(put(tensors), method)
    adapted = build(trial, CLASSES, warm)
    assert set(adapted.head_parameters) == {"head.projection.weight", "head.weight", "head.bias"}
    found = sum(p.numel() for p in adapted.trainable_parameters.values())
    assert trainable_params(trial) == found


def test_a_run_trains_the_projection_too_and_its_model_loads(warm, put, tensors, tmp_path):
    kept = []
    result = run_trial(
        spec(put(tensors)),
        METRICS,
        warm=warm,
        observer=Silent(),
        on_model=lambda adapted: kept.append((to_bytes(adapted), adapted.vit)),
    )
    ((data, vit),) = kept
    moved = safetensors.torch.load(data)
    assert not torch.equal(moved["head.projection.weight"], tensors["projection"])
    assert result.head_params == DIM * tensors["projection"].shape[1] + CLASSES * (DIM + 1)
    x_B3SS = torch.randn(3, 3, 28, 28)
    (tmp_path / "head.safetensors").unlink()  # it is not needed to load a model
    (tmp_path / "model.safetensors").write_bytes(data)
    loaded = saved.load(
        warm.backbone("vit_tiny_fashion"), tmp_path / "model.safetensors"
    ).vit.eval()
    with torch.inference_mode():
        assert torch.equal(loaded(x_B3SS), vit.eval()(x_B3SS))


@pytest.mark.parametrize("method", ["linear", "lora", "full", "pfeiffer"])
def test_the_ends_of_a_wise_path_are_the_zero_shot_and_the_trained_model(
    warm, put, tensors, tmp_path, method
):
    trial = spec(put(tensors), method)
    adapted = build(trial, CLASSES, warm)
    start = adapted.vit.eval()
    with torch.inference_mode():
        run_pixels = images().pixels.pixels
    generator = torch.Generator().manual_seed(1)
    zero_shot = _logits_of(start, warm, trial, run_pixels)
    with torch.no_grad():
        for parameter in adapted.trainable_parameters.values():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    (tmp_path / "model.safetensors").write_bytes(to_bytes(adapted))
    run = TrainedRun(trial, tmp_path / "model.safetensors", warm)

    def logits(mode, alpha):
        return torch.from_numpy(run.score(images(), mode, alpha, METRICS).predictions.logits)

    assert torch.allclose(logits("zero_shot", 0.0), zero_shot, atol=1e-5)
    assert torch.equal(logits("all", 0.0), logits("zero_shot", 0.0))
    assert torch.equal(logits("all", 1.0), logits("trained", 1.0))
    assert not torch.allclose(logits("all", 0.5), logits("trained", 1.0), atol=1e-3)


def _logits_of(vit, warm, trial, pixels):
    from adapters import backbones
    from adapters.training.evaluate import Normalise

    normalise = Normalise(backbones.describe(trial.backbone), torch.device("cpu"))
    with torch.inference_mode():
        return vit(normalise(pixels)).clone()


def test_without_one_nothing_of_a_runs_identity_changes_and_with_one_its_digest_counts(
    put, tensors
):
    assert "text_head" not in run_spec(spec(None)).science["train"]
    one, other = (
        run_spec(spec(TextHeadConfig(file="a", digest=digit * 64, dim=DIM))) for digit in "ab"
    )
    assert one.run_id != other.run_id
    assert one.trial().train.text_head == TextHeadConfig(file="a", digest="a" * 64, dim=DIM)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"digest": "0" * 64}, "declared is 000"),
        ({"file": "none.safetensors"}, "none.safetensors"),
        ({"dim": 7}, r"projection \(12, .* given, allowed: \(7, "),
    ],
)
def test_a_file_that_is_not_what_was_declared_fails_the_run(warm, put, tensors, change, said):
    with pytest.raises(DataError, match=said):
        build(spec(put(tensors, **change)), CLASSES, warm)


def test_a_file_without_embeddings_fails_the_run(warm, put, tensors):
    with pytest.raises(DataError, match="weight no such tensor given"):
        build(spec(put({"projection": tensors["projection"]})), CLASSES, warm)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"file": "/etc/passwd"}, "allowed: a file below the data root"),
        ({"file": "../x"}, "allowed: a file below the data root"),
        ({"digest": "xyz"}, "allowed: 64 hexadecimal digits"),
        ({"dim": 0}, "dim: 0 given"),
    ],
)
def test_bad_settings_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        TextHeadConfig(**{"file": "a", "digest": "a" * 64, "dim": DIM} | settings)


def test_two_ways_to_start_the_head_are_refused():
    head = TextHeadConfig(file="a", digest="a" * 64, dim=DIM)
    with pytest.raises(ValueError, match="head_init: zero given, allowed: default with text_head"):
        TrainConfig(text_head=head, head_init="zero")


class PlayedClip(torch.nn.Module):
    """Encodes a sentence as the counts of its letters."""

    def __init__(self):
        super().__init__()
        self.visual = SimpleNamespace(proj=torch.arange(12.0).view(4, 3))
        self.logit_scale = torch.tensor(2.0)

    def encode_text(self, tokens):
        return torch.tensor([[float(text.count(c)) for c in "abc"] for text in tokens])


@pytest.fixture
def open_clip(monkeypatch):
    played = SimpleNamespace(
        create_model_and_transforms=lambda model, pretrained: (PlayedClip(), None, None),
        get_tokenizer=lambda model: list,
        IMAGENET_CLASSNAMES=["ab", "c"],
        OPENAI_IMAGENET_TEMPLATES=[lambda name: f"a {name}", lambda name: f"b {name}"],
    )
    monkeypatch.setitem(sys.modules, "open_clip", played)
    return played


def test_embeddings_are_normalised_averaged_over_sentences_normalised_and_scaled(open_clip):
    found = clip_text.embeddings(clip_text.imagenet_names(), clip_text.openai_templates(), "m", "p")
    each = functional.normalize(torch.tensor([[2.0, 1, 0], [1, 2, 0]]), dim=-1)  # "a ab", "b ab"
    expected = functional.normalize(each.mean(0), dim=-1) * torch.tensor(2.0).exp()
    assert torch.allclose(found["weight"][0], expected)
    assert torch.equal(found["projection"], torch.arange(12.0).view(4, 3).T)


def test_a_sentence_without_a_place_for_the_name_is_refused():
    with pytest.raises(ValueError, match="allowed: a sentence with one"):
        clip_text.templates_of(["a photo"])


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ImportError, match=r"pip install 'peftgrid\[clip\]'"):
        clip_text.imagenet_names()
