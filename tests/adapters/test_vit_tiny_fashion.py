"""The packaged tiny ViT: its declaration against the file, and the script that made the file."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional

from adapters.backbones import _pretrain_tiny, vit_tiny_fashion
from adapters.checkpoint import digest
from adapters.data import digits
from adapters.inject import anatomy_of


@pytest.fixture(scope="module")
def vit():
    return vit_tiny_fashion.create()


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_file_is_small_fp16_and_the_one_that_is_declared():
    assert vit_tiny_fashion.missing() is None
    assert vit_tiny_fashion.WEIGHTS.stat().st_size <= 4_000_000
    stored = load_file(vit_tiny_fashion.WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert not [name for name in stored if name.startswith("head.")]
    assert digest(stored) == vit_tiny_fashion.INFO.weights_digest


def test_the_header_says_how_the_weights_were_made_and_the_description_quotes_it():
    with safe_open(vit_tiny_fashion.WEIGHTS, framework="pt") as file:
        made = json.loads(file.metadata()["pretraining"])
    settings = {field.name for field in dataclasses.fields(_pretrain_tiny.PretrainConfig)}
    assert set(made) == settings | {"val_top1", "torch", "timm"}
    defaults = dataclasses.asdict(_pretrain_tiny.PretrainConfig())
    assert {name: made[name] for name in settings} == defaults
    assert f"{made['val_top1']:.1%}".replace("%", " %") in vit_tiny_fashion.INFO.description


def test_it_loads_ready_to_use(vit):
    assert not vit.training
    assert {p.dtype for p in vit.parameters()} == {torch.float32}
    features = vit(torch.zeros(2, 3, 28, 28))
    assert features.shape == (2, 160)
    assert torch.isfinite(features).all()


def test_the_declared_dims_are_the_models_own(vit):
    dims, block = vit_tiny_fashion.INFO.dims, vit.blocks[0]
    parameters = dict(vit.named_parameters())
    biases = [p for name, p in parameters.items() if name.rsplit(".", 1)[-1] == "bias"]
    assert dataclasses.asdict(dims) == {
        "anatomy": dataclasses.asdict(anatomy_of(vit, 0)),
        "width": vit.embed_dim,
        "depth": len(vit.blocks),
        "heads": block.attn.num_heads,
        "mlp_width": block.mlp.fc1.out_features,
        "params": sum(p.numel() for p in parameters.values()),
        "bias_params": sum(p.numel() for p in biases),
        "norm_params": (2 * len(vit.blocks) + 1) * 2 * vit.embed_dim,
        "block_norm_params": 4 * vit.embed_dim,
        "linear_biases": ("qkv", "proj", "fc1", "fc2"),
        "image_size": vit.patch_embed.img_size[0],
        "patch_size": vit.patch_embed.patch_size[0],
        "prefix_tokens": vit.num_prefix_tokens,
    }


def test_a_file_with_other_weights_is_refused(tmp_path, monkeypatch):
    stored = load_file(vit_tiny_fashion.WEIGHTS)
    stored["norm.bias"][0] += 1
    other = tmp_path / "vit_tiny_fashion.safetensors"
    save_file(stored, other)
    monkeypatch.setattr(vit_tiny_fashion, "WEIGHTS", other)
    with pytest.raises(ValueError, match=re.escape(str(other))) as refused:
        vit_tiny_fashion.create()
    assert digest(stored) in str(refused.value)
    assert vit_tiny_fashion.INFO.weights_digest in str(refused.value)


def probe(model, splits):
    """Score a ridge regression from frozen patch tokens onto one-hot labels, on the test set."""

    def features(images):
        x_NCHW = torch.from_numpy(images.pixels).permute(0, 3, 1, 2).float() / 255
        x_NCHW = functional.interpolate(x_NCHW, (28, 28), mode="bicubic").clamp(0, 1)
        with torch.no_grad():
            tokens_NTD = model.forward_features(_pretrain_tiny.to_input(x_NCHW))
        x_ND = tokens_NTD[:, 1:].mean(dim=1).double()
        return torch.cat([x_ND, torch.ones(len(x_ND), 1)], dim=1)

    x_ND, y_NC = features(splits.train), functional.one_hot(torch.from_numpy(splits.train.labels))
    penalty = torch.eye(x_ND.shape[1], dtype=torch.float64)
    w_DC = torch.linalg.solve(x_ND.T @ x_ND + penalty, x_ND.T @ y_NC.double())
    guess = (features(splits.test) @ w_DC).argmax(dim=1).numpy()
    return (guess == splits.test.labels).mean()


def test_its_frozen_features_carry_over_to_digits(vit):
    if digits.missing():
        pytest.skip(f"needs the digits of scikit-learn: {digits.missing()}")
    splits = digits.load(digits.Config(train=400, val=50, test=300))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = vit_tiny_fashion.build(num_classes=0).eval()
    pretrained_top1, untrained_top1 = probe(vit, splits), probe(untrained, splits)
    assert untrained_top1 > 0.3  # chance is 0.1, and the probe itself works
    assert pretrained_top1 > untrained_top1 + 0.05


def write_idx(path, values):
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">i4").tobytes()
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        file.write(header + values.tobytes())


@pytest.fixture
def tiny_images(tmp_path):
    rng = np.random.default_rng(0)
    write_idx(
        tmp_path / "train-images-idx3-ubyte.gz",
        rng.integers(0, 256, (24, 28, 28), dtype=np.uint8),
    )
    write_idx(tmp_path / "train-labels-idx1-ubyte", rng.integers(0, 10, 24, dtype=np.uint8))
    return tmp_path


def pretrained(folder, name, *options):
    settings = ["--steps", "2", "--batch-size", "8", "--validation", "6", "--precision", "fp32"]
    out = folder / name
    _pretrain_tiny.main(["--images-dir", str(folder), "--out", str(out), *settings, *options])
    return out


@pytest.mark.usefixtures("one_thread")
def test_the_pretraining_script_gives_the_same_file_for_the_same_seed(tiny_images):
    first = pretrained(tiny_images, "first")
    torch.rand(1)  # The state of the global generator must not matter.
    again = pretrained(tiny_images, "again")
    other = pretrained(tiny_images, "other", "--seed", "1")
    assert first.read_bytes() == again.read_bytes()
    assert digest(load_file(first)) != digest(load_file(other))
    packaged, fresh = load_file(vit_tiny_fashion.WEIGHTS), load_file(first)
    assert {name: t.shape for name, t in fresh.items()} == {
        name: t.shape for name, t in packaged.items()
    }


@pytest.mark.usefixtures("one_thread")
def test_the_pretraining_script_moves_the_weights(tiny_images):
    still = load_file(pretrained(tiny_images, "still", "--lr", "0"))
    moved = load_file(pretrained(tiny_images, "moved"))
    assert not torch.equal(still["blocks.0.attn.qkv.weight"], moved["blocks.0.attn.qkv.weight"])


def test_a_folder_without_the_images_is_named(tmp_path):
    with pytest.raises(ValueError, match="train-images-idx3-ubyte") as refused:
        pretrained(tmp_path, "out")
    assert str(tmp_path) in str(refused.value)


def test_a_split_that_leaves_too_little_is_refused(tiny_images):
    with pytest.raises(ValueError, match="--validation: 20 given with 24 images"):
        pretrained(tiny_images, "out", "--validation", "20")


def test_augmented_images_are_coloured_bounded_and_differ():
    image = torch.zeros(64, 28, 28, dtype=torch.uint8)
    image[:, 8:20, 8:20] = 200
    x_B3HW = _pretrain_tiny.augment(image, torch.Generator().manual_seed(0))
    assert x_B3HW.shape == (64, 3, 28, 28)
    assert x_B3HW.min() >= 0
    assert x_B3HW.max() <= 1
    spread = x_B3HW.mean(dim=(2, 3)).std(dim=1)
    assert 16 < int((spread > 0.05).sum()) < 48  # about half are coloured
    background = x_B3HW[:, :, 0, :].mean(dim=(1, 2))
    assert int((background > 0.5).sum()) in range(4, 26)  # about a fifth are inverted


def test_batches_see_every_image_once_per_pass():
    stream = _pretrain_tiny.batches(10, 5, torch.Generator().manual_seed(0))
    passes = [torch.cat([next(stream), next(stream)]) for _ in range(2)]
    assert [sorted(p.tolist()) for p in passes] == [list(range(10))] * 2
    assert not torch.equal(*passes)


def test_the_learning_rate_rises_then_falls_to_zero():
    config = _pretrain_tiny.PretrainConfig(steps=100, warmup=0.1, lr=1.0)
    rates = [_pretrain_tiny.learning_rate(step, config) for step in range(101)]
    assert max(rates) == rates[10] == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[0] > 0
    assert rates[100] == pytest.approx(0)
