"""Corrupted images: the same every time, worse with severity, and of the right kind."""

import pytest
import torch

from adapters.corruptions import NAMES, SEVERITIES, corrupt


@pytest.fixture(scope="module")
def pixels():
    """Smooth colour gradients with an edge, as photos have."""
    ramp = torch.linspace(20, 220, 112)
    images = torch.stack(
        [ramp.expand(112, 112), ramp.flip(0).expand(112, 112).T, ramp.expand(112, 112).T]
    )
    images = torch.stack([images, images.flip(0)])
    images[:, :, 28:56, 28:56] = 240
    return images.to(torch.uint8)


def error(made, pixels):
    return (made.float() - pixels.float()).square().mean().item()


@pytest.mark.parametrize("name", NAMES)
def test_each_severity_is_further_from_the_image_and_the_same_every_time(name, pixels):
    made = [corrupt(pixels, name, severity) for severity in SEVERITIES]
    assert all(m.shape == pixels.shape and m.dtype == torch.uint8 for m in made)
    errors = [error(m, pixels) for m in made]
    assert errors[0] > 0
    assert errors == sorted(errors)
    assert torch.equal(corrupt(pixels, name, 3), made[2])


def test_noise_has_the_deviation_it_names():
    grey = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)
    noise = corrupt(grey, "gaussian_noise", 1).float() / 255 - 128 / 255
    assert noise.std().item() == pytest.approx(0.08, rel=0.05)
    assert abs(noise.mean().item()) < 0.005


def test_an_image_is_corrupted_alike_wherever_the_batch_ends(pixels):
    assert torch.equal(
        corrupt(pixels, "gaussian_noise", 2)[:1], corrupt(pixels[:1], "gaussian_noise", 2)
    )


def test_contrast_keeps_the_mean_and_blur_a_flat_image(pixels):
    less = corrupt(pixels, "contrast", 2).float()
    assert (less.mean((2, 3)) - pixels.float().mean((2, 3))).abs().max() < 1
    flat = torch.full((1, 3, 28, 28), 77, dtype=torch.uint8)
    assert torch.equal(corrupt(flat, "gaussian_blur", 5), flat)


def test_what_is_unknown_is_refused(pixels):
    with pytest.raises(ValueError, match="corruption: 'fog' given, allowed: gaussian_noise"):
        corrupt(pixels, "fog", 1)
    with pytest.raises(ValueError, match="severity: 6 given, allowed: 1, 2, 3, 4, 5"):
        corrupt(pixels, "jpeg", 6)
