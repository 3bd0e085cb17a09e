"""A user's own images, in folders and in lists, and the cache that decodes them once."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapters import backbones, registry
from adapters.data import _decoded, _files
from adapters.data._progress import listening
from adapters.data._resize import resized
from adapters.data.contract import Images
from adapters.errors import DataError
from adapters.preprocess import Preprocess
from adapters.warm import Warm

ROOT = Path(__file__).resolve().parents[2]
INFO = backbones.describe("vit_tiny_fashion")


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    monkeypatch.setenv("PEFTGRID_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PEFTGRID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


def picture(path, seed, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def folder(root, sets=("train", "test"), each=6, classes=("cat", "dog")):
    """image_folder/pets with so many images of every class in every set."""
    number = 0
    for part in sets:
        for name in classes:
            for at in range(each):
                number += 1
                picture(root / "image_folder" / "pets" / part / name / f"{at}.png", number)
    return root / "image_folder" / "pets"


def lists(root, lines):
    where = root / "image_list" / "mine"
    where.mkdir(parents=True)
    for part, given in lines.items():
        (where / f"{part}.txt").write_text("".join(f"{line}\n" for line in given))
        for line in given:
            picture(where / line.rpartition(" ")[0], sum(line.encode()))
    return where


def load(name, **settings):
    module = registry.dataset(name)
    return module.load(module.Config(**settings))


def test_folders_become_labels_in_alphabetical_order(root):
    folder(root)
    splits = load("image_folder/pets", classes=2, train=6, val=4)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (6, 4, 12)
    assert set(splits.train.names).isdisjoint(splits.val.names)
    assert all(
        name.split("/")[1] == ("cat", "dog")[label]
        for part in (splits.train, splits.val, splits.test)
        for name, label in zip(part.names, part.labels, strict=True)
    )
    assert all(name.startswith("test/") for name in splits.test.names)


def test_a_folder_without_a_split_holds_a_fifth_out(root):
    where = folder(root, sets=(".",), each=10)
    splits = load("image_folder/pets", classes=2, train=12, val=4)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (12, 4, 4)
    again = load("image_folder/pets", classes=2, train=8, val=8, split_seed=3)
    assert splits.test.names == again.test.names
    assert where.is_dir()


def test_a_validation_folder_is_the_validation_set(root):
    folder(root, sets=("train", "val", "test"), each=4)
    splits = load("image_folder/pets", classes=2, train=8, val=8)
    assert all(name.startswith("val/") for name in splits.val.names)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda w: (w / "train" / "emu").mkdir(), "class 'emu' is in one of train and test only"),
        (
            lambda w: [(w / p / "emu").mkdir() for p in ("train", "test")],
            "3 class folders given, allowed: classes, 2",
        ),
        (
            lambda w: [path.unlink() for path in (w / "test" / "dog").iterdir()],
            "test/dog: no image given, allowed: at least one",
        ),
    ],
)
def test_a_wrong_folder_is_named(root, spoil, said):
    spoil(folder(root))
    with pytest.raises(ValueError, match=said):
        load("image_folder/pets", classes=2, train=6, val=4)


def test_a_missing_root_is_named(root):
    assert "put the images at" in registry.dataset("image_folder/pets").missing()
    with pytest.raises(FileNotFoundError, match="pets: no such folder"):
        load("image_folder/pets", classes=2, train=6, val=4)


@pytest.mark.parametrize("family", ["image_folder", "image_list"])
@pytest.mark.parametrize("name", ["../secret", "/etc", ""])
def test_no_name_leaves_the_root(family, name):
    with pytest.raises(ValueError, match=f"{family}: .* given, allowed: a folder below"):
        registry.dataset(f"{family}/{name}")


def test_lists_name_images_and_labels(root):
    lists(root, {"train": [f"a b/{n}.png {n % 3}" for n in range(9)], "test": ["t.png 0"]})
    splits = load("image_list/mine", classes=3, train=6, val=3)
    assert splits.test.names == ("t.png",)
    assert sorted((*splits.train.names, *splits.val.names)) == [f"a b/{n}.png" for n in range(9)]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["a.png"], r"train.txt:1: 'a.png' given, allowed: a path, a space, a label"),
        (["a.png 0", "b.png 3"], r"train.txt:2: label 3 given, allowed: 0 to 2"),
        (["a.png 0", "t.png 1"], r"train and test: 1 images are in both, among them 't.png'"),
        (["../a.png 0"], r"train.txt:1: '../a.png' given, allowed: a path inside"),
    ],
)
def test_a_wrong_list_is_named_with_its_line(root, lines, said):
    where = root / "image_list" / "mine"
    where.mkdir(parents=True)
    (where / "train.txt").write_text("\n".join(lines))
    (where / "test.txt").write_text("t.png 0\n")
    with pytest.raises(ValueError, match=said):
        load("image_list/mine", classes=3, train=1, val=1)


# What the network gets


def test_images_of_any_size_are_decoded_once_and_shared(root, monkeypatch):
    folder(root)
    config = registry.dataset("image_folder/pets").Config(classes=2, train=6, val=4)
    first = Warm(torch.device("cpu")).data("image_folder/pets", config, INFO)
    assert first.train.pixels.shape == (6, 3, 28, 28)
    assert first.train.pixels.dtype == torch.uint8
    monkeypatch.setattr(_decoded, "decode", lambda *_: pytest.fail("decoded again"))
    again = Warm(torch.device("cpu")).data("image_folder/pets", config, INFO)
    assert torch.equal(first.train.pixels, again.train.pixels)
    assert again.digest == first.digest


def test_the_pixels_are_those_of_the_file_resized(root):
    where = folder(root)
    splits = load("image_folder/pets", classes=2, train=6, val=4)
    found = _decoded.decoded(splits.train, 28, "bicubic", "squash")
    with Image.open(where / splits.train.names[3]) as image:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    assert torch.equal(found[3:4], resized(pixels, 28, "bicubic", "squash"))


def test_the_order_of_the_images_is_part_of_the_cache(root):
    folder(root)
    train = load("image_folder/pets", classes=2, train=6, val=4).train
    turned = train.take(np.arange(6)[::-1])
    there, back = (_decoded.decoded(part, 28, "bicubic", "squash") for part in (train, turned))
    assert torch.equal(there, back.flip(0))


def test_a_cut_cache_is_made_anew(root):
    folder(root)
    train = load("image_folder/pets", classes=2, train=6, val=4).train
    whole = _decoded.decoded(train, 28, "bicubic", "squash").clone()
    (path,) = (root.parent / "cache" / "decoded").glob("*.u8")
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(_decoded.decoded(train, 28, "bicubic", "squash"), whole)


def test_two_processes_decode_once(root):
    folder(root)
    code = (
        "import sys, json, time; from adapters import registry; from adapters.data import _decoded\n"
        "m = registry.dataset('image_folder/pets'); s = m.load(m.Config(classes=2, train=6, val=4))\n"
        "n = [0]; old = _decoded.decode\n"
        "def slow(*a):\n n[0] += 1; time.sleep(0.05); return old(*a)\n"
        "_decoded.decode = slow\n"
        "p = _decoded.decoded(s.train, 28, 'bicubic', 'squash'); print(json.dumps([n[0], int(p.sum())]))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, env=os.environ
        )
        for _ in range(2)
    ]
    found = [json.loads(process.communicate()[0]) for process in both]
    assert sorted(n for n, _ in found) == [0, 6]
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("damage", ["cut", "text"])
def test_an_image_that_cannot_be_decoded_is_named(root, damage):
    where = folder(root)
    bad = where / "train" / "cat" / "0.png"
    bad.write_bytes(bad.read_bytes()[:200] if damage == "cut" else b"not an image")
    config = registry.dataset("image_folder/pets").Config(classes=2, train=8, val=4)
    with pytest.raises(DataError, match=r"image_folder/pets: train/cat/0\.png: .* no whole image"):
        Warm(torch.device("cpu")).data("image_folder/pets", config, INFO)


def test_a_declared_digest_is_compared(root):
    folder(root)
    module = registry.dataset("image_folder/pets")
    right = load("image_folder/pets", classes=2, train=6, val=4).source_digest
    warm = Warm(torch.device("cpu"))
    settings = {"classes": 2, "train": 6, "val": 4}
    warm.data("image_folder/pets", module.Config(**settings, digest=right), INFO)
    with pytest.raises(DataError, match=f"its images have digest {right}, declared is 00"):
        warm.data("image_folder/pets", module.Config(**settings, digest="00"), INFO)


def test_files_are_hashed_once_and_again_where_they_changed(root, monkeypatch):
    where = folder(root)
    read = []
    own = _files.FileReader.__call__
    monkeypatch.setattr(
        _files.FileReader, "__call__", lambda self, name: (read.append(name), own(self, name))[1]
    )
    first = load("image_folder/pets", classes=2, train=6, val=4).source_digest
    assert len(read) == 24
    assert load("image_folder/pets", classes=2, train=6, val=4).source_digest == first
    assert len(read) == 24
    picture(where / "train" / "cat" / "0.png", 999, size=(41, 30))
    assert load("image_folder/pets", classes=2, train=6, val=4).source_digest != first
    assert read[24:] == ["train/cat/0.png"]


def test_reading_says_that_it_goes_on_and_can_be_ended(root):
    folder(root)
    config = registry.dataset("image_folder/pets").Config(classes=2, train=6, val=4)
    heard = []
    warm = Warm(torch.device("cpu"))
    warm.data("image_folder/pets", config, INFO, on_progress=lambda: heard.append(1))
    assert len(heard) >= 24 + 22  # hashed and decoded
    splits = load("image_folder/pets", classes=2, train=6, val=4)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(stop):
        _decoded.decoded(splits.test, 14, "bicubic", "squash")
    assert not list((root.parent / "cache" / "decoded").glob("*.tmp"))


def test_a_large_set_in_memory_goes_through_the_cache_in_parts(monkeypatch, root):
    pixels = np.random.default_rng(0).integers(0, 256, (600, 12, 12, 3), dtype=np.uint8)
    images = Images(pixels, np.zeros(600, np.int64))
    small = _decoded.decoded(images, 14, "bicubic", "squash")
    monkeypatch.setattr(_decoded, "_IN_MEMORY", 1000)
    large = _decoded.decoded(images, 14, "bicubic", "squash")
    assert torch.equal(small, large)
    assert list((root.parent / "cache" / "decoded").glob("*.u8"))


# Preprocessing


def image(height, width):
    ramp = torch.arange(width, dtype=torch.float32) * 255 / (width - 1)
    return ramp.expand(1, 3, height, width).round().to(torch.uint8)


def test_squash_takes_both_sides_and_crops_the_middle_alone():
    wide = image(64, 128)
    squashed = resized(wide, 56, "bilinear", "squash")
    assert squashed.shape == (1, 3, 56, 56)
    assert int(squashed[0, 0, 0, 0]) < 8
    assert int(squashed[0, 0, 0, -1]) > 247
    cropped = resized(wide, 56, "bilinear", "crop")
    assert cropped.shape == (1, 3, 56, 56)
    assert 60 < int(cropped[0, 0, 0, 0]) < 80
    square = resized(wide, 56, "bilinear", "square_crop")
    assert 10 < int(square[0, 0, 0, 0]) < 25


def test_what_is_normalised_by():
    assert Preprocess().mean_std(INFO) == (INFO.mean, INFO.std)
    assert Preprocess(normalise="none").mean_std(INFO) == ((0.0,) * 3, (1.0,) * 3)
    assert Preprocess(normalise="half").mean_std(INFO)[0] == (0.5,) * 3
    assert Preprocess(normalise="imagenet").mean_std(INFO)[0][0] == 0.485
    assert Preprocess(interpolation="bilinear").mode(INFO) == "bilinear"
    assert Preprocess().mode(INFO) == INFO.interpolation


def test_jpegs_with_few_channels_and_alpha_become_rgb():
    for mode in ("L", "RGBA", "P", "CMYK"):
        held = io.BytesIO()
        form = "JPEG" if mode in ("L", "CMYK") else "PNG"
        Image.new(mode, (9, 7)).save(held, form)
        assert _decoded.decode("x", held.getvalue()).shape == (7, 9, 3)
