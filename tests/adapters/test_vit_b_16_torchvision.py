"""torchvision's ViT under timm's names: the same numbers, and only from the file that was published."""

from __future__ import annotations

import hashlib

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models import vision_transformer as theirs

from adapters.backbones import vit_b_16_torchvision
from adapters.backbones._dims import dims_of


def without_head(vit):
    vit.heads = nn.Identity()
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.3)
    return vit.eval()


@torch.inference_mode()
def test_the_renamed_tensors_give_torchvisions_numbers():
    model = without_head(theirs.VisionTransformer(32, 16, 2, 3, 24, 96))
    ours = VisionTransformer(img_size=32, embed_dim=24, depth=2, num_heads=3, num_classes=0)
    ours.load_state_dict(vit_b_16_torchvision.to_timm(model.state_dict()), strict=True)
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(images), model(images), rtol=1e-5, atol=1e-5)


def test_the_published_files_names_are_read_too_and_its_head_is_left():
    published = {
        "encoder.layers.encoder_layer_11.mlp.linear_1.weight": torch.zeros(1),
        "encoder.layers.encoder_layer_11.mlp.linear_2.bias": torch.zeros(1),
        "heads.head.weight": torch.zeros(1),
    }
    assert sorted(vit_b_16_torchvision.to_timm(published)) == [
        "blocks.11.mlp.fc1.weight",
        "blocks.11.mlp.fc2.bias",
    ]


def test_the_sizes_are_those_of_the_architecture():
    with torch.device("meta"):
        vit = timm.create_model(vit_b_16_torchvision.INFO.timm_name, num_classes=0)
        names = vit_b_16_torchvision.to_timm(theirs.vit_b_16().state_dict())
    assert dims_of(vit) == vit_b_16_torchvision.INFO.dims
    assert set(names) == set(vit.state_dict())


def test_where_torchs_hub_keeps_it_and_what_gets_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = theirs.ViT_B_16_Weights.IMAGENET1K_V1
    assert weights.url.endswith(vit_b_16_torchvision.FILE)
    folder = tmp_path / "hub" / "checkpoints"
    assert str(folder) == torch.hub.get_dir() + "/checkpoints"
    assert "IMAGENET1K_V1.get_state_dict" in vit_b_16_torchvision.missing()
    folder.mkdir(parents=True)
    (folder / vit_b_16_torchvision.FILE).write_bytes(b"another file")
    assert vit_b_16_torchvision.missing() is None
    with pytest.raises(ValueError, match="allowed: one that begins with c867db91"):
        vit_b_16_torchvision.create()


@pytest.mark.slow
@torch.inference_mode()
def test_a_model_made_from_the_file_is_torchvisions(monkeypatch, tmp_path):
    model = theirs.vit_b_16()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / "made")
    digest = hashlib.sha256((folder / "made").read_bytes()).hexdigest()
    monkeypatch.setattr(vit_b_16_torchvision, "FILE", f"vit_b_16-{digest[:8]}.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (folder / "made").rename(folder / vit_b_16_torchvision.FILE)
    model.heads = nn.Identity()
    images = torch.randn(1, 3, 224, 224)
    made = vit_b_16_torchvision.create()
    torch.testing.assert_close(made(images), model.eval()(images), rtol=1e-4, atol=1e-4)
