"""How the weights of `vit_tiny_fashion` were made: supervised pretraining on Fashion-MNIST, seeded.

    python -m adapters.backbones._pretrain_tiny --images-dir DIR --out FILE

DIR holds the training images and labels of Fashion-MNIST (Xiao, Rasul, Vollgraf 2017,
arXiv:1708.07747) as idx files, gzipped or not, under their official names; Debian's package
dataset-fashion-mnist installs them. The official test images are never read. A seeded split keeps
some of the 60,000 training images for the one validation at the end; nothing is selected on it.

The images are grey and a backbone must take colour, so training images are coloured at random. The
same settings, library versions and kind of processor give the same weights bit for bit: the
schedule counts steps, never seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from adapters.backbones import vit_tiny_fashion
from adapters.checkpoint import digest

log = logging.getLogger(__name__)

CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Everything but the data that decides the weights."""

    steps: int = 4530
    """Optimiser steps and length of the schedule; 453 are one pass over 58,000 images."""
    batch_size: int = 128
    lr: float = 1e-3
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises linearly."""
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    validation: int = 2000
    """Training images kept out for the validation at the end."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """`bf16` is autocast; a processor without bf16 instructions emulates it very slowly."""
    seed: int = 0


def read_idx(folder: Path, name: str) -> Tensor:
    """Read the uint8 array of the idx file `name`, or `name`.gz, in `folder`."""
    packed, plain = folder / f"{name}.gz", folder / name
    if packed.is_file():
        raw = gzip.decompress(packed.read_bytes())
    elif plain.is_file():
        raw = plain.read_bytes()
    else:
        raise ValueError(f"--images-dir: {folder} given, which holds neither {name} nor {name}.gz")
    # Two zero bytes, 8 for uint8, the number of axes; then one big-endian int32 per axis.
    if raw[:3] != b"\0\0\x08":
        raise ValueError(
            f"{name} in {folder}: starts with {raw[:3]!r}, allowed: an idx file of uint8"
        )
    axes = raw[3]
    shape = np.frombuffer(raw, dtype=">i4", count=axes, offset=4).tolist()
    values = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * axes)
    return torch.from_numpy(values.reshape(shape).copy())


def to_input(x_BCHW: Tensor) -> Tensor:
    """Normalised colour images from images in 0..1 with one or three channels."""
    mean, std = (
        torch.tensor(v).view(3, 1, 1)
        for v in (vit_tiny_fashion.INFO.mean, vit_tiny_fashion.INFO.std)
    )
    return (x_BCHW.expand(-1, 3, -1, -1) - mean) / std


def augment(images_BHW: Tensor, generator: torch.Generator) -> Tensor:
    """Move, mirror, invert, colour and add noise, at random; colour images (B, 3, H, W) in 0..1."""
    count = len(images_BHW)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    angle, scale = uniform(-0.17, 0.17), uniform(0.9, 1.1)  # radians: 10 degrees either way
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = uniform(-0.1, 0.1, 2)  # in half images: 1.4 pixels
    rows = (cos * mirror, -sin, shift[:, 0]), (sin * mirror, cos, shift[:, 1])
    theta_B23 = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    x_B1HW = images_BHW[:, None].float() / 255
    grid = functional.affine_grid(theta_B23, list(x_B1HW.shape), align_corners=False)
    x_B1HW = functional.grid_sample(x_B1HW, grid, align_corners=False)

    inverted = uniform(0, 1, 1, 1, 1) < 0.2
    x_B1HW = torch.where(inverted, 1 - x_B1HW, x_B1HW)

    coloured = uniform(0, 1, 1, 1, 1) < 0.5
    dark, bright = uniform(0, 0.5, 3, 1, 1), uniform(0.5, 1, 3, 1, 1)
    x_B3HW = torch.where(coloured, torch.lerp(dark, bright, x_B1HW), x_B1HW)

    noise = torch.randn(x_B3HW.shape, generator=generator) * uniform(0, 0.1, 1, 1, 1)
    return (x_B3HW + noise).clamp(0, 1)


def batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the indices of full batches without end, each pass over the images in a new order."""
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: count - count % batch_size].view(-1, batch_size)


def learning_rate(step: int, config: PretrainConfig) -> float:
    """Linear warm-up, then a cosine to 0."""
    warmup = config.warmup * config.steps
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (config.steps - warmup)))


@torch.no_grad()
def accuracy(model: nn.Module, images_NHW: Tensor, labels_N: Tensor) -> float:
    """Top-1 on the plain grey images, in float32."""
    model.eval()
    correct = 0
    for images_BHW, labels_B in zip(
        torch.split(images_NHW, 500), torch.split(labels_N, 500), strict=True
    ):
        logits = model(to_input(images_BHW[:, None].float() / 255))
        correct += int((logits.argmax(dim=1) == labels_B).sum())
    return correct / len(labels_N)


def pretrain(
    images_NHW: Tensor, labels_N: Tensor, config: PretrainConfig
) -> tuple[dict[str, Tensor], float]:
    """Train from scratch; the backbone's tensors in fp16 and the validation accuracy."""
    train_count = len(images_NHW) - config.validation
    if config.validation < 1 or train_count < config.batch_size:
        raise ValueError(
            f"--validation: {config.validation} given with {len(images_NHW)} images, "
            f"allowed: at least 1, with one batch ({config.batch_size}) left to train on"
        )
    generator = torch.Generator().manual_seed(config.seed)
    order = torch.randperm(len(images_NHW), generator=generator)
    train, held_out = order[:train_count], order[train_count:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = vit_tiny_fashion.build(CLASSES)
    for block in model.blocks:
        # On a CPU the fused kernel in bf16 makes a whole step of this size three times slower.
        block.attn.fused_attn = False
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay, fused=True)
    model.train()
    started, loss_sum, since = time.monotonic(), 0.0, 0
    stream = batches(train_count, config.batch_size, generator)
    for step in range(config.steps):
        chosen = train[next(stream)]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            logits = model(to_input(augment(images_NHW[chosen], generator)))
        loss = functional.cross_entropy(
            logits.float(), labels_N[chosen].long(), label_smoothing=config.label_smoothing
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss_sum, since = loss_sum + loss.item(), since + 1
        if (step + 1) % 100 == 0 or step + 1 == config.steps:
            elapsed = time.monotonic() - started
            log.info(
                "step %d of %d, loss %.4f, %.0f s",
                step + 1,
                config.steps,
                loss_sum / since,
                elapsed,
            )
            loss_sum, since = 0.0, 0
    val_top1 = accuracy(model, images_NHW[held_out], labels_N[held_out])
    tensors = {
        name: tensor.half().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith("head.")
    }
    return tensors, val_top1


def main(argv: Sequence[str] | None = None) -> None:
    """Read the images, pretrain, write the file."""
    parser = argparse.ArgumentParser(description="Pretrain vit_tiny_fashion on Fashion-MNIST.")
    parser.add_argument("--images-dir", type=Path, required=True, help="folder of the idx files")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    for item in dataclasses.fields(PretrainConfig):
        choices = ["bf16", "fp32"] if item.name == "precision" else None
        parser.add_argument(
            f"--{item.name.replace('_', '-')}",
            type=type(item.default),
            default=item.default,
            choices=choices,
        )
    given: dict[str, Any] = vars(parser.parse_args(argv))
    folder, out = given.pop("images_dir"), given.pop("out")
    config = PretrainConfig(**given)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)  # so that the weights do not depend on how many cores there are
    images_NHW = read_idx(folder, "train-images-idx3-ubyte")
    labels_N = read_idx(folder, "train-labels-idx1-ubyte")
    tensors, val_top1 = pretrain(images_NHW, labels_N, config)
    made = dataclasses.asdict(config) | {
        "val_top1": val_top1,
        "torch": torch.__version__,
        "timm": timm.__version__,
    }
    # One key only: safetensors writes several in random order, and the file must be reproducible.
    header = {"pretraining": json.dumps(made)}
    safetensors.torch.save_file(tensors, out, metadata=header)
    log.info("validation accuracy %.4f, digest %s", val_top1, digest(tensors))


if __name__ == "__main__":
    main()
