"""One contract over every data set there is, and the helpers that split and draw."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from adapters import registry
from adapters.data import (
    _render,
    materials,
    shapes_count,
    shapes_location,
    shapes_orientation,
    splits,
)
from adapters.data.contract import Images
from adapters.data.splits import SplitConfig, carve, hold_out


@pytest.fixture(
    scope="module",
    params=[name for name in registry.datasets() if registry.dataset(name).DIGEST is not None],
)
def dataset(request):
    """Every data set with a declared digest, which shows it constant: slow sources are read once."""
    module = registry.dataset(request.param)
    if command := module.missing():
        pytest.skip(f"{request.param} is absent; get it with: {command}")
    with pytest.MonkeyPatch.context() as patch:
        for source in ("_pool", "_read"):
            if hasattr(module, source):
                patch.setattr(module, source, functools.cache(getattr(module, source)))
        yield module


@pytest.fixture(scope="module")
def loaded(dataset):
    return dataset.load(dataset.Config())


def hashes(images):
    return {image.tobytes() for image in images.pixels}


def equal(a, b):
    return np.array_equal(a.pixels, b.pixels) and np.array_equal(a.labels, b.labels)


def test_sizes_labels_and_digest_are_as_declared(dataset, loaded):
    config = dataset.Config()
    assert dataset.GROUP in {"natural", "specialised", "structured"}
    assert (len(loaded.train), len(loaded.val), len(loaded.test)) == (
        config.train,
        config.val,
        config.test,
    )
    assert loaded.classes == dataset.CLASSES
    assert loaded.source_digest == dataset.DIGEST
    for part in (loaded.train, loaded.val, loaded.test):
        assert set(part.labels.tolist()) == set(range(dataset.CLASSES))


def test_no_image_is_in_two_sets(loaded):
    train, val, test = hashes(loaded.train), hashes(loaded.val), hashes(loaded.test)
    assert not train & val
    assert not train & test
    assert not val & test


def test_images_are_neither_blank_nor_all_alike(loaded):
    assert len(hashes(loaded.train)) > 0.95 * len(loaded.train)
    assert loaded.train.pixels.min() < 32
    assert loaded.train.pixels.max() > 223


def test_the_same_config_gives_the_same_arrays(dataset, loaded):
    again = dataset.load(dataset.Config())
    assert all(
        equal(getattr(again, part), getattr(loaded, part)) for part in ("train", "val", "test")
    )


def test_a_split_seed_changes_val_and_never_the_test_images(dataset, loaded):
    config = dataset.Config(split_seed=1, test=100)
    other = dataset.load(config)
    assert other.source_digest == loaded.source_digest
    assert equal(other.test, loaded.test.take(np.arange(100)))
    assert hashes(other.val) != hashes(loaded.val)
    assert not hashes(loaded.test) & (hashes(other.train) | hashes(other.val))


def test_a_request_larger_than_the_pool_is_refused(dataset):
    with pytest.raises(ValueError, match=r"train.*: 100\d* images given, allowed: at most \d+"):
        dataset.load(dataset.Config(train=10_000, val=1))


def numbered(labels):
    """Images whose first two bytes are their number."""
    pixels = np.zeros((len(labels), 1, 1, 3), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = divmod(np.arange(len(labels)), 256)
    return Images(pixels, np.asarray(labels, np.int64))


def numbers(images):
    return set((images.pixels[:, 0, 0, 0].astype(int) * 256 + images.pixels[:, 0, 0, 1]).tolist())


def test_carve_is_disjoint_and_balanced_as_far_as_counts_allow():
    pool = numbered([0] * 100 + [1] * 50 + [2] * 10)
    parts = carve(pool, numbered([0, 1, 2] * 5), SplitConfig(train=60, val=12, test=6), 3)
    assert not numbers(parts.train) & numbers(parts.val)
    assert np.bincount(parts.val.labels).tolist() == [4, 4, 4]
    assert np.bincount(parts.train.labels).tolist() == [27, 27, 6]
    assert np.bincount(parts.test.labels).tolist() == [2, 2, 2]


def test_carve_with_blocks_never_splits_a_block_of_a_class():
    labels, blocks = np.tile([0, 1], 60), np.repeat([0, 1, 2], 40)
    for seed in range(5):
        config = SplitConfig(train=60, val=20, test=1, split_seed=seed)
        parts = carve(numbered(labels), numbered([0]), config, 2, blocks)
        for label in (0, 1):
            of_train, of_val = (
                {int(blocks[n]) for n in numbers(part) if labels[n] == label}
                for part in (parts.train, parts.val)
            )
            assert len(of_val) == 1
            assert not of_train & of_val


def test_hold_out_partitions_the_pool():
    train, test = hold_out(numbered([0, 1] * 50), 20)
    assert len(test) == 20
    assert numbers(train) | numbers(test) == set(range(100))
    assert not numbers(train) & numbers(test)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            SplitConfig(train=8, val=3, test=1),
            r"train \+ val: 11 images given, allowed: at most 10",
        ),
        (SplitConfig(train=1, val=1, test=5), r"test: 5 images given, allowed: at most 4"),
    ],
)
def test_carve_names_the_setting_that_is_too_large(config, message):
    with pytest.raises(ValueError, match=message):
        carve(numbered([0, 1] * 5), numbered([0, 1] * 2), config, 2)


@pytest.mark.parametrize(
    "setting", [{"train": 0}, {"val": 0}, {"test": 0}, {"split_seed": -1}, {"split_seed": 2**32}]
)
def test_sizes_and_seeds_out_of_range_are_refused(setting):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f"{name}: {value} given"):
        SplitConfig(**setting)


def test_grey_becomes_three_equal_channels():
    grey = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    rgb = splits.grey_to_rgb(grey)
    assert rgb.shape == (2, 2, 2, 3)
    assert all(np.array_equal(rgb[..., c], grey) for c in range(3))


def test_material_patches_of_two_sets_share_no_pixel(monkeypatch, tmp_path):
    """Every photo is replaced by one whose pixels hold their own place."""
    y_HW, x_HW = np.mgrid[:300, :250]
    path = tmp_path / "place.png"
    Image.fromarray(np.stack([x_HW, y_HW % 256, y_HW // 256], -1).astype(np.uint8)).save(path)
    monkeypatch.setattr(materials, "_path", lambda *_: path)
    parts = materials.load(materials.Config())
    for label in (0, 7, 13):
        train, val, test = (
            np.unique(part.pixels[part.labels == label].reshape(-1, 3) @ np.array([1, 256, 65536]))
            for part in (parts.train, parts.val, parts.test)
        )
        assert not np.intersect1d(train, val).size
        assert max(*train % 256, *val % 256) < 150  # 60 %
        assert min(test % 256) >= 162  # 65 %


def test_materials_name_the_command_where_a_photo_is_absent(monkeypatch):
    monkeypatch.setattr(materials, "_path", lambda *_: Path("absent.png"))
    assert materials.missing() == 'pip install "peftgrid[demo]"'


@pytest.fixture
def blank(monkeypatch):
    """Grey backgrounds, so that whatever differs from them was drawn."""

    def grey(_rng, count):
        return np.full((count, _render.SIDE, _render.SIDE, 3), 128, np.uint8)

    monkeypatch.setattr(_render, "backgrounds", grey)


def painted(image_HWC):
    return (image_HWC != 128).any(-1)


@pytest.mark.usefixtures("blank")
def test_count_is_the_number_of_separate_objects():
    pool = shapes_count._pool(seed=1, count=60)
    found = [ndimage.label(painted(image), np.ones((3, 3)))[1] for image in pool.pixels]
    assert found == (pool.labels + 1).tolist()


@pytest.mark.usefixtures("blank")
def test_location_is_the_cell_of_the_object():
    pool = shapes_location._pool(seed=1, count=80)
    for image, label in zip(pool.pixels, pool.labels, strict=True):
        y, x = ndimage.center_of_mass(painted(image))
        assert (int(y) // 14) * 4 + int(x) // 14 == label


@pytest.mark.usefixtures("blank")
def test_orientation_is_where_the_dart_points(monkeypatch):
    draw = _render.draw

    def darts_only(image, kind, **settings):
        if kind == "dart":
            draw(image, kind, **settings)

    monkeypatch.setattr(_render, "draw", darts_only)
    pool = shapes_orientation._pool(seed=1, count=80)
    for image, label in zip(pool.pixels, pool.labels, strict=True):
        y, x = np.nonzero(painted(image))
        dx, dy = x - x.mean(), y.mean() - y
        tip = np.argmax(dx**2 + dy**2)
        degrees = np.degrees(np.arctan2(dy[tip], dx[tip])) - 22.5 * label
        assert abs((degrees + 180) % 360 - 180) < 14


def test_a_drawn_disc_has_the_area_and_the_colour_asked_for():
    image = np.zeros((_render.SIDE, _render.SIDE, 3), np.uint8)
    colour = np.array([200, 100, 0])
    unit = _render.UNIT
    _render.draw(
        image, "circle", x=28 * unit, y=20 * unit, radius=9 * unit, angle=0, colour_C=colour
    )
    assert image[20, 28].tolist() == [200, 100, 0]
    assert image[..., 0].sum() / 200 == pytest.approx(np.pi * 81, rel=0.02)
    assert ndimage.center_of_mass(image[..., 0]) == pytest.approx((19.5, 27.5), abs=0.05)
