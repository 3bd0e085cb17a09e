"""torchvision's data sets, each read from a tiny tree in the layout that torchvision expects."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import pickle

import numpy as np
import pytest
from scipy.io import savemat
from torchvision import datasets

from adapters import registry
from adapters.data import torchvision
from adapters.data.contract import Encoded, Images


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    """The folder of torchvision's files."""
    monkeypatch.setenv("PEFTGRID_DATA", str(tmp_path))
    (tmp_path / "torchvision").mkdir()
    return tmp_path / "torchvision"


@pytest.fixture
def sized(monkeypatch):
    """Gives a data set with other published counts."""

    def resize(name, **counts):
        source = dataclasses.replace(torchvision.SOURCES[name], **counts)
        monkeypatch.setitem(torchvision.SOURCES, name, source)
        return torchvision.member(name)

    return resize


def put(file, data=None):
    """A file that holds its own name, or `data`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(file.name.encode() if data is None else data)
    return hashlib.md5(file.read_bytes()).hexdigest()  # as torchvision compares it


def pixels(count, side, seed=0):
    shape = (count, side, side, 3)
    return np.random.RandomState(seed).randint(0, 256, shape, dtype=np.uint8)


def held(parts):
    """All images of the three sets with their labels, sorted."""
    return sorted(
        (name, int(label))
        for part in (parts.train, parts.val, parts.test)
        for name, label in zip(part.names, part.labels, strict=True)
    )


# Sets that torchvision holds in memory


@pytest.fixture
def cifar(root, monkeypatch):
    """Five batches of four images and a test batch of two; gives the pixels of the test batch."""
    folder = root / "cifar-10-batches-py"

    def batch(name, images, labels):
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        return [name, put(folder / name, pickle.dumps({"data": rows, "labels": labels}))]

    train = [batch(f"data_batch_{i}", pixels(4, 32, i), [0, 1, 2, 9]) for i in range(1, 6)]
    tested = pixels(2, 32, 9)
    test = [batch("test_batch", tested, [3, 4])]
    meta = put(folder / "batches.meta", pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", test)
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": meta})
    return tested


def test_cifar_is_read_from_its_batches(cifar, sized):
    member = sized("cifar10", train=20, test=2)
    assert member.missing() is None
    parts = member.load(member.Config(val=4))
    assert isinstance(parts.train, Images)
    assert (len(parts.train), len(parts.val), parts.classes) == (16, 4, 10)
    assert sorted(parts.val.labels) == [0, 1, 2, 9]
    assert np.array_equal(parts.test.pixels, cifar)
    assert parts.test.labels.tolist() == [3, 4]


def test_a_batch_of_cifar_with_another_md5_is_never_unpickled(root, cifar, sized, monkeypatch):
    member = sized("cifar10", train=20, test=2)
    put(root / "cifar-10-batches-py" / "data_batch_3", b"something else")
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(ValueError, match=r"torchvision/cifar10 in .*not found or corrupted"):
        member.load(member.Config(val=4))


@pytest.mark.usefixtures("cifar")
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train": 21, "test": 2}, "training images of cifar10: 20 images given, .* published 21"),
        ({"train": 20, "test": 3}, "test images of cifar10: 2 images given, .* published 3"),
        ({"train": 20, "test": 2, "classes": 9}, "label 9 of image 3 given, allowed: 0 to 8"),
    ],
)
def test_counts_and_labels_other_than_the_published_are_refused(sized, counts, message):
    member = sized("cifar10", **counts)
    with pytest.raises(ValueError, match=message):
        member.load(member.Config(val=4))


def test_svhn_is_read_from_its_matrices(root, sized, monkeypatch):
    images = pixels(6, 32)
    lists = dict(datasets.SVHN.split_list)
    for part, chosen, labels in (
        ("train", images[:4], [10, 1, 2, 3]),
        ("test", images[4:], [10, 9]),
    ):
        file = root / f"{part}_32x32.mat"
        savemat(file, {"X": chosen.transpose(1, 2, 3, 0), "y": np.array(labels)[:, None]})
        lists[part] = ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", lists)
    member = sized("svhn", train=4, test=2)
    assert member.missing() is None
    parts = member.load(member.Config(val=1))
    assert np.array_equal(parts.test.pixels, images[4:])
    assert parts.test.labels.tolist() == [0, 9]


def test_stl_is_read_from_its_binaries(root, sized, monkeypatch):
    folder, lists = root / "stl10_binary", {}
    images = pixels(6, 96)
    for part, chosen, labels in (
        ("train", images[:4], [1, 2, 3, 4]),
        ("test", images[4:], [10, 1]),
    ):
        stored = chosen.transpose(0, 3, 2, 1).tobytes()  # channels, then columns, as MATLAB does
        lists[part] = [
            [f"{part}_X.bin", put(folder / f"{part}_X.bin", stored)],
            [f"{part}_y.bin", put(folder / f"{part}_y.bin", bytes(labels))],
        ]
    monkeypatch.setattr(datasets.STL10, "train_list", lists["train"])
    monkeypatch.setattr(datasets.STL10, "test_list", lists["test"])
    member = sized("stl10", train=4, test=2)
    parts = member.load(member.Config(val=1))
    assert np.array_equal(parts.test.pixels, images[4:])
    assert parts.test.labels.tolist() == [9, 0]


@pytest.mark.parametrize(
    ("name", "reader"),
    [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")],
)
def test_mnist_and_its_likes_become_three_equal_channels(root, sized, name, reader):
    grey = np.arange(6 * 28 * 28, dtype=np.int64).reshape(6, 28, 28).astype(np.uint8)
    for part, chosen, labels in (("train", grey[:4], [0, 1, 2, 3]), ("t10k", grey[4:], [8, 9])):
        raw = root / reader / "raw"
        head = (2051, len(chosen), 28, 28), (2049, len(labels))
        for kind, numbers, data in (
            ("images-idx3", head[0], chosen.tobytes()),
            ("labels-idx1", head[1], bytes(labels)),
        ):
            put(raw / f"{part}-{kind}-ubyte", np.array(numbers, ">i4").tobytes() + data)
            put(raw / f"{part}-{kind}-ubyte.gz", gzip.compress(b""))
    member = sized(name, train=4, test=2)
    parts = member.load(member.Config(val=1))
    assert np.array_equal(parts.test.pixels, np.repeat(grey[4:, :, :, None], 3, axis=3))
    assert parts.test.labels.tolist() == [8, 9]


# Sets of files


def dtd(root):
    for part, numbers in (("train", (0, 1)), ("val", (2, 3)), ("test", (4,))):
        lines = [f"{kind}/{kind}_{i}.jpg" for kind in ("banded", "woven") for i in numbers]
        for line in lines:
            put(root / "dtd" / "dtd" / "images" / line)
        put(root / "dtd" / "dtd" / "labels" / f"{part}1.txt", "\n".join(lines).encode())
    return {"train": 8, "test": 2}, ("dtd/dtd/images/woven/woven_4.jpg", 1)


def oxford_pets(root):
    folder = root / "oxford-iiit-pet"
    for part, numbers in (("trainval", range(4)), ("test", (4,))):
        lines = []
        for label, kind in enumerate(("Abyssinian", "pug"), start=1):
            lines += [f"{kind}_{i} {label} {label} 1" for i in numbers]
            for i in numbers:
                put(folder / "images" / f"{kind}_{i}.jpg")
        put(folder / "annotations" / f"{part}.txt", "\n".join(lines).encode())
    return {"train": 8, "test": 2}, ("oxford-iiit-pet/images/pug_4.jpg", 1)


def flowers102(root, monkeypatch):
    folder = root / "flowers-102"
    for i in range(1, 9):
        put(folder / "jpg" / f"image_{i:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": [1, 2, 1, 2, 1, 2, 1, 102]})
    savemat(folder / "setid.mat", {"trnid": [1, 2], "valid": [3, 4], "tstid": [5, 6, 7, 8]})
    known = dict(datasets.Flowers102._file_dict)
    for key in ("label", "setid"):
        file = known[key][0]
        known[key] = (file, hashlib.md5((folder / file).read_bytes()).hexdigest())
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", known)
    return {"train": 4, "test": 4}, ("flowers-102/jpg/image_00008.jpg", 101)


def fgvc_aircraft(root):
    folder = root / "fgvc-aircraft-2013b" / "data"
    put(folder / "variants.txt", b"707-320\nA 380\n")
    for part, numbers in (("trainval", range(4)), ("test", (4, 5))):
        lines = [f"{i} {('707-320', 'A 380')[i % 2]}" for i in numbers]
        put(folder / f"images_variant_{part}.txt", "\n".join(lines).encode())
        for i in numbers:
            put(folder / "images" / f"{i}.jpg")
    return {"train": 4, "test": 2}, ("fgvc-aircraft-2013b/data/images/5.jpg", 1)


def food101(root):
    folder = root / "food-101"
    for part, numbers in (("train", range(3)), ("test", (3,))):
        lists = {kind: [f"{kind}/{i}" for i in numbers] for kind in ("pie", "soup")}
        put(folder / "meta" / f"{part}.json", json.dumps(lists).encode())
        for name in (name for names in lists.values() for name in names):
            put(folder / "images" / f"{name}.jpg")
    return {"train": 6, "test": 2}, ("food-101/images/soup/3.jpg", 1)


def stanford_cars(root):
    folder = root / "stanford_cars"
    kind = [("fname", object), ("class", object)]
    for part, count, file in (
        ("train", 4, "devkit/cars_train_annos.mat"),
        ("test", 2, "cars_test_annos_withlabels.mat"),
    ):
        for i in range(count):
            put(folder / f"cars_{part}" / f"{i}.jpg")
        (folder / "devkit").mkdir(exist_ok=True)
        rows = np.array([(f"{i}.jpg", i % 2 + 1) for i in range(count)], kind)
        savemat(folder / file, {"annotations": rows})
    names = np.array(["Audi", "BMW"], object)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    return {"train": 4, "test": 2}, ("stanford_cars/cars_test/1.jpg", 1)


TREES = (dtd, oxford_pets, flowers102, fgvc_aircraft, food101, stanford_cars)


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.__name__)
def test_a_set_of_files_is_read_undecoded(root, sized, monkeypatch, tree):
    arguments = (root, monkeypatch) if tree is flowers102 else (root,)
    counts, (name, label) = tree(*arguments)
    member = sized(tree.__name__, **counts)
    assert member.missing() is None
    parts = member.load(member.Config(val=2))
    assert isinstance(parts.test, Encoded)
    assert (len(parts.train), len(parts.val)) == (counts["train"] - 2, 2)
    assert len(set(held(parts))) == sum(counts.values())
    assert dict(zip(parts.test.names, parts.test.labels.tolist(), strict=True))[name] == label
    for part in (parts.train, parts.val, parts.test):
        assert all(part.read(image).decode() == image.rpartition("/")[2] for image in part.names)


def eurosat(root):
    for kind in ("Forest", "River"):
        for i in range(1, 9):
            put(root / "eurosat" / "2750" / kind / f"{kind}_{i}.jpg")
    return "eurosat/2750/River/River_1.jpg"


def caltech101(root):
    for kind in ("BACKGROUND_Google", "ant", "yin_yang"):
        for i in range(1, 9):
            put(root / "caltech101" / "101_ObjectCategories" / kind / f"image_{i:04d}.jpg")
    return "caltech101/101_ObjectCategories/yin_yang/image_0001.jpg"


@pytest.mark.parametrize("tree", [eurosat, caltech101], ids=lambda tree: tree.__name__)
def test_a_set_without_a_split_gets_a_fixed_balanced_hold_out(root, sized, tree):
    name = tree(root)
    member = sized(tree.__name__, train=12, test=4)
    assert member.missing() is None
    first, second = (member.load(member.Config(val=2, split_seed=seed)) for seed in (0, 1))
    assert (len(first.train), len(first.val), len(first.test)) == (10, 2, 4)
    assert first.test.names == second.test.names
    assert np.bincount(first.test.labels).tolist() == [2, 2]
    assert held(first) == held(second)
    assert (name, 1) in held(first)
    assert len(set(held(first))) == 16


def test_a_set_without_a_split_and_of_another_size_is_refused(root, sized):
    eurosat(root)
    member = sized("eurosat", train=13, test=4)
    with pytest.raises(ValueError, match=r"images of eurosat: 16 images given, .* published 17"):
        member.load(member.Config(val=2))


# Absent sets and downloads


@pytest.mark.parametrize("name", [name for name in torchvision.MEMBERS if name != "stanford_cars"])
def test_an_absent_set_names_the_command_that_gets_it(name):
    name = f"torchvision/{name}"
    assert registry.dataset(name).missing() == f"peftgrid datasets get {name}"


def test_stanford_cars_say_what_to_put_where(root):
    said = registry.dataset("torchvision/stanford_cars").missing()
    assert "cars_train, cars_test and devkit" in said
    assert str(root / "stanford_cars") in said
    with pytest.raises(ValueError, match="can no longer download"):
        torchvision.download("stanford_cars")


def test_a_download_is_torchvisions_own_for_every_part(root, monkeypatch):
    asked = []
    monkeypatch.setattr(datasets, "DTD", lambda *folder, **given: asked.append((*folder, given)))
    torchvision.download("dtd")
    assert asked == [
        (root, {"split": part, "partition": 1, "download": True})
        for part in ("train", "val", "test")
    ]


def test_a_set_that_is_absent_is_a_value_error_when_it_is_loaded():
    member = registry.dataset("torchvision/dtd")
    with pytest.raises(ValueError, match=r"torchvision/dtd in .*not found"):
        member.load(member.Config())


def test_a_set_that_torchvision_has_not_is_named_with_the_nearest():
    with pytest.raises(registry.UnknownNameError, match="Did you mean 'cifar100'"):
        registry.dataset("torchvision/cifar-100")
