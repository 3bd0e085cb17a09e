"""Data sets on disk: VTAB-1K, CUB-200-2011, ImageNet and its shifted sets, Parquet files."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters import registry
from adapters.data import cub200, imagenet, parquet, vtab1k
from adapters.data._evaluation import EvaluationSet
from adapters.data._lists import read_list
from adapters.data._sampling import Facts, sampled


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    monkeypatch.setenv("PEFTGRID_DATA", str(tmp_path))
    return tmp_path


def write_list(file, entries):
    """A list, and a file for each of its images."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{name} {label}\n" for name, label in entries))


def write_images(folder, entries):
    for name, _ in entries:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


# Lists


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b.jpg", r"list.txt:2: 'b.jpg' given, allowed: a path, a space, a label"),
        ("b.jpg one", "list.txt:2: 'b.jpg one' given"),
        ("b.jpg 2", "list.txt:2: label 2 given, allowed: 0 to 1"),
        ("b.jpg -1", "list.txt:2: label -1 given, allowed: 0 to 1"),
        ("../b.jpg 1", r"list.txt:2: '../b.jpg' given, allowed: a path inside"),
        ("/b.jpg 1", "list.txt:2: '/b.jpg' given, allowed: a path inside"),
        ("a.jpg 1", "list.txt:2: 'a.jpg' given, which an earlier line has"),
    ],
)
def test_a_wrong_line_of_a_list_is_named(tmp_path, line, message):
    (tmp_path / "list.txt").write_text(f"a.jpg 0\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_list(tmp_path / "list.txt", tmp_path, 2)


def test_an_empty_list_is_refused(tmp_path):
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(ValueError, match="no line given"):
        read_list(tmp_path / "list.txt", tmp_path, 2)


def test_paths_of_a_list_may_hold_spaces(tmp_path):
    (tmp_path / "list.txt").write_text("a b/c d.jpg 1\n")
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "c d.jpg").write_bytes(b"image")
    images = read_list(tmp_path / "list.txt", tmp_path, 2)
    assert images.labels.tolist() == [1]
    assert images.read(images.names[0]) == b"image"


def test_an_image_that_a_list_names_and_nobody_has_fails_when_it_is_read(tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg 0\n")
    images = read_list(tmp_path / "list.txt", tmp_path, 2)
    with pytest.raises(FileNotFoundError, match=r"a\.jpg"):
        images.read("a.jpg")


# VTAB-1K


def kitti(root):
    """Lists and images as large as the published ones."""
    folder = root / "vtab1k" / "kitti"
    sizes = {"train800": 800, "val200": 200, "test": 711}
    entries = {
        part: [(f"images/{part}/{i}.jpg", i % 4) for i in range(n)] for part, n in sizes.items()
    }
    entries["train800val200"] = entries["train800"] + entries["val200"]
    for part, lines in entries.items():
        write_list(folder / f"{part}.txt", lines)
        write_images(folder, lines)
    return folder, entries


def test_vtab_has_its_19_tasks_in_three_groups():
    groups = [registry.dataset(f"vtab1k/{name}").GROUP for name in vtab1k.MEMBERS]
    assert [groups.count(group) for group in ("natural", "specialised", "structured")] == [7, 4, 8]


def test_a_task_of_vtab_is_read_from_its_lists(root):
    kitti(root)
    task = registry.dataset("vtab1k/kitti")
    assert task.missing() is None
    parts = task.load(task.Config())
    assert (len(parts.train), len(parts.val), len(parts.test)) == (800, 200, 711)
    assert parts.classes == 4
    assert parts.val.read(parts.val.names[7]) == b"images/val200/7.jpg"
    assert len(task.load(task.Config(test=40)).test) == 40


def test_the_list_of_1000_may_have_copies_of_its_own(root):
    folder, entries = kitti(root)
    copies = []
    for i, (name, label) in enumerate(entries["train800val200"]):
        copies.append((f"images/train800val200/{i}.jpg", label))
        (folder / "images" / "train800val200").mkdir(exist_ok=True)
        (folder / copies[-1][0]).write_bytes(name.encode())
    write_list(folder / "train800val200.txt", copies)
    task = registry.dataset("vtab1k/kitti")
    assert len(task.load(task.Config()).train) == 800


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("train800", lambda lines: lines[:-1], "train800.txt: 799 images given, .* published 800"),
        ("val200", lambda lines: lines[:-1], "val200.txt: 199 images given, .* published 200"),
        ("test", lambda lines: lines[:-1], "test.txt: 710 images given, .* published 711"),
        (
            "test",
            lambda lines: [("images/val200/3.jpg", 3), *lines[1:]],
            "^val200 and test: 1 images are in both, among them 'images/val200/3.jpg'",
        ),
        (
            "val200",
            lambda lines: [("images/train800/3.jpg", 3), *lines[1:]],
            "train800 and val200: 1 images are in both, among them 'images/train800/3.jpg'",
        ),
        (
            "train800val200",
            lambda lines: [(lines[0][0], 3), *lines[1:]],
            r"train800val200.txt: other images or labels given, allowed: the union",
        ),
        ("test", lambda lines: [(lines[0][0], 4), *lines[1:]], "test.txt:1: label 4 given"),
    ],
)
def test_lists_of_vtab_that_are_not_the_benchmarks_are_refused(root, part, change, message):
    folder, entries = kitti(root)
    write_list(folder / f"{part}.txt", change(entries[part]))
    task = registry.dataset("vtab1k/kitti")
    with pytest.raises(ValueError, match=message):
        task.load(task.Config())


def test_an_absent_task_of_vtab_says_what_to_unpack_where(root):
    said = registry.dataset("vtab1k/cifar").missing()
    assert "vtab-1k.zip" in said
    assert str(root / "vtab1k" / "cifar") in said


def test_vtab_fixes_train_and_val():
    with pytest.raises(ValueError, match="train: 799 given, allowed: 800"):
        vtab1k.Config(train=799)


def test_a_task_that_vtab_has_not_is_named_with_the_nearest():
    with pytest.raises(registry.UnknownNameError, match="Did you mean 'cifar'"):
        registry.dataset("vtab1k/cifar10")


# CUB-200-2011


@pytest.fixture
def birds(root, monkeypatch):
    """Eight images of two species; the last two are the test set."""
    monkeypatch.setattr(cub200, "TRAIN", 6)
    monkeypatch.setattr(cub200, "TEST", 2)
    folder = root / "cub200" / "CUB_200_2011"
    images = [(f"00{i % 2 + 1}.Bird/{i}.jpg", i % 2) for i in range(8)]
    write_images(folder / "images", images)
    lines = {
        "images.txt": [name for name, _ in images],
        "image_class_labels.txt": [label + 1 for _, label in images],
        "train_test_split.txt": [int(i < 6) for i in range(8)],
    }
    for name, values in lines.items():
        (folder / name).write_text("".join(f"{i + 1} {v}\n" for i, v in enumerate(values)))
    return folder


BirdConfig = sampled(Facts(classes=200, train=6, test=2))


@pytest.mark.usefixtures("birds")
def test_birds_are_split_as_their_authors_did():
    assert cub200.missing() is None
    parts = cub200.load(BirdConfig(val=2))
    assert (len(parts.train), len(parts.val), parts.classes) == (4, 2, 200)
    assert parts.test.names == ("001.Bird/6.jpg", "002.Bird/7.jpg")
    assert parts.test.labels.tolist() == [0, 1]
    assert parts.test.read("001.Bird/6.jpg") == b"001.Bird/6.jpg"


def test_birds_have_the_published_counts():
    assert (cub200.Config().train + cub200.Config().val, cub200.Config().test) == (5994, 5794)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("image_class_labels.txt", "1 201", "label 200 of image 0 given, allowed: 0 to 199"),
        ("image_class_labels.txt", "1 x", "'x' of image 1 given, allowed: a whole number"),
        ("image_class_labels.txt", "1", r"image_class_labels.txt:1: '1' given"),
        ("train_test_split.txt", "9 1", "train_test_split.txt: its images and those .* at 1"),
        ("train_test_split.txt", "1 0", "training images .*: 5 images given, .* published 6"),
    ],
)
def test_lists_of_birds_that_do_not_fit_are_refused(birds, file, text, message):
    lines = (birds / file).read_text().splitlines()
    (birds / file).write_text("\n".join([text, *lines[1:]]))
    with pytest.raises(ValueError, match=message):
        cub200.load(BirdConfig(val=2))


def test_absent_birds_say_what_to_unpack_where(root):
    assert "CUB_200_2011.tgz" in cub200.missing()
    assert str(root / "cub200") in cub200.missing()


# ImageNet and its shifted sets


def test_class_subsets_are_200_increasing_classes_of_imagenet():
    for name in ("r", "a"):
        member = registry.dataset(f"imagenet/{name}")
        subset = member.CLASS_SUBSET
        assert len(subset) == member.CLASSES == 200
        assert sorted(set(subset)) == list(subset)
        assert 0 <= subset[0] <= subset[-1] < member.TRAINED_CLASSES == 1000


def test_class_subsets_are_not_the_same():
    r, a = (set(registry.dataset(f"imagenet/{name}").CLASS_SUBSET) for name in "ra")
    assert 1 in r - a
    assert 986 in a - r


def test_a_shifted_set_is_read_for_evaluation_and_not_for_training(root, monkeypatch):
    small = dataclasses.replace(imagenet.SHIFTED["a"], images=3)
    monkeypatch.setitem(imagenet.SHIFTED, "a", small)
    lines = [("imagenet-a/n1/x y.jpg", 0), ("imagenet-a/n1/b.jpg", 0), ("imagenet-a/n2/c.jpg", 199)]
    write_list(root / "imagenet" / "imagenet-a" / "val_meta.list", lines)
    write_images(root / "imagenet", lines)
    member = imagenet.member("a")
    assert isinstance(member, EvaluationSet)
    assert member.missing() is None
    images = member.evaluation(member.Config())
    assert images.labels.tolist() == [0, 0, 199]
    assert images.read(images.names[0]) == b"imagenet-a/n1/x y.jpg"
    assert member.evaluation(member.Config(test=2)).labels.tolist() == [0, 199]
    with pytest.raises(ValueError, match="imagenet/a given, which has nothing to train on"):
        member.load(member.Config())


def test_a_shifted_set_of_another_size_is_refused(root):
    write_list(root / "imagenet" / "imagenet-v2" / "val_meta.list", [("a.jpg", 999)])
    member = registry.dataset("imagenet/v2")
    assert member.CLASS_SUBSET is None
    with pytest.raises(ValueError, match="1 images given, allowed: the published 10000"):
        member.evaluation(member.Config())


def test_a_shifted_set_takes_no_train_size():
    with pytest.raises(ValueError, match="train: 5 given, allowed: 0"):
        registry.dataset("imagenet/v2").Config(train=5)


@pytest.fixture
def few(root, monkeypatch):
    """Lists of ImageNet of four, two and two images."""
    facts = Facts(classes=1000, train=4, val=2, test=2)
    monkeypatch.setattr(imagenet, "FEW_SHOT", facts)
    lists = {
        "train": [(f"t/{i}.jpg", i % 2) for i in range(4)],
        "val": [(f"v/{i}.jpg", i) for i in range(2)],
        "test": [(f"x/{i}.jpg", i) for i in range(2)],
    }
    for part, lines in lists.items():
        write_list(root / "imagenet" / f"{part}.txt", lines)
        write_images(root / "imagenet", lines)
    return lists


@pytest.mark.usefixtures("few")
def test_few_shot_imagenet_is_read_from_its_lists():
    member = imagenet.member("few_shot")
    parts = member.load(member.Config())
    assert (len(parts.train), len(parts.val), len(parts.test)) == (4, 2, 2)
    assert parts.val.names == ("v/0.jpg", "v/1.jpg")


def test_lists_of_imagenet_that_overlap_are_refused(root, few):
    write_list(root / "imagenet" / "val.txt", [few["val"][0], few["train"][1]])
    member = imagenet.member("few_shot")
    with pytest.raises(ValueError, match="train and val: 1 images are in both, among them 't/1"):
        member.load(member.Config())


def test_absent_imagenet_names_the_lists_and_the_folder(root):
    said = registry.dataset("imagenet/few_shot").missing()
    assert "train.txt, val.txt, test.txt" in said
    assert str(root / "imagenet") in said


# Parquet


def write_parquet(file, labels, *, image="image", label="label", struct=True, prefix=""):
    file.parent.mkdir(parents=True, exist_ok=True)
    data = [f"{prefix}{i}".encode() for i in range(len(labels))]
    images = [{"bytes": b, "path": None} for b in data] if struct else data
    table = pa.table({image: images, label: pa.array(labels, pa.int64())})
    pq.write_table(table, file, row_group_size=4)


@pytest.fixture
def pets(root):
    folder = root / "parquet" / "pets"
    write_parquet(folder / "train-0.parquet", [0, 1] * 6, prefix="a")
    write_parquet(folder / "train-1.parquet", [1, 0] * 3, prefix="b")
    write_parquet(folder / "test.parquet", [0, 1] * 2, prefix="t")
    return folder


CONFIG = parquet.Config(classes=2, train=10, val=4)


@pytest.mark.usefixtures("pets")
def test_rows_of_parquet_files_are_images_with_labels():
    member = registry.dataset("parquet/pets")
    assert member.missing() is None
    parts = member.load(CONFIG)
    assert (len(parts.train), len(parts.val), len(parts.test)) == (10, 4, 4)
    for part in (parts.train, parts.val):
        assert list(part.names) == sorted(part.names)  # as the digest reads them, row after row
        for name, label in zip(part.names, part.labels, strict=True):
            file, row = name.split("#")
            letter = {"train-0.parquet": "a", "train-1.parquet": "b"}[file]
            assert part.read(name) == f"{letter}{int(row)}".encode()
            assert label == (int(row) + (letter == "b")) % 2


@pytest.mark.usefixtures("pets")
def test_a_group_of_rows_is_read_once_for_its_images(monkeypatch):
    opened = []
    real = parquet._opened
    monkeypatch.setattr(parquet, "_opened", lambda file: opened.append(file) or real(file))
    images = registry.dataset("parquet/pets").load(CONFIG).test
    opened.clear()
    assert [images.read(name) for name in images.names] == [b"t0", b"t1", b"t2", b"t3"]
    assert len(opened) <= 2


def test_plain_binary_columns_of_other_names_and_the_folder_data_are_found(root):
    folder = root / "parquet" / "plain" / "data"
    for part in ("train", "test"):
        write_parquet(
            folder / f"{part}.parquet", [0, 1] * 3, image="img", label="fine_label", struct=False
        )
    parts = registry.dataset("parquet/plain").load(parquet.Config(classes=2, train=2, val=2))
    assert parts.test.read("data/test.parquet#000000005") == b"5"


def test_val_is_drawn_from_validation_files_where_there_are_any(pets):
    write_parquet(pets / "validation.parquet", [0, 1] * 2, prefix="v")
    parts = registry.dataset("parquet/pets").load(CONFIG)
    assert {name.partition("#")[0] for name in parts.val.names} == {"validation.parquet"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 1}, "classes: 1 given"),
        (
            {"image": "photo"},
            "image: 'photo' given, allowed: one of the columns of .*: image, label",
        ),
        ({"label": "name"}, "label: 'name' given, allowed: one of the columns"),
        ({"label": "image"}, "column image of struct.* given, allowed: whole numbers"),
        ({"image": "label"}, "column label of int64 given, allowed: binary"),
        ({"train": 20}, r"train \+ val: 24 images given, allowed: at most 18"),
    ],
)
@pytest.mark.usefixtures("pets")
def test_settings_that_do_not_fit_the_files_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        registry.dataset("parquet/pets").load(
            parquet.Config(**{"classes": 2, "train": 10, "val": 4} | settings)
        )


def test_a_label_out_of_range_in_a_parquet_file_is_named(pets):
    write_parquet(pets / "test.parquet", [0, 2])
    with pytest.raises(
        ValueError, match=r"test.parquet: label 2 of image 1 given, allowed: 0 to 1"
    ):
        registry.dataset("parquet/pets").load(CONFIG)


def test_a_row_without_a_label_is_refused(pets):
    write_parquet(pets / "test.parquet", [0, None])
    with pytest.raises(ValueError, match="1 rows have no label"):
        registry.dataset("parquet/pets").load(CONFIG)


def test_a_file_that_is_no_parquet_file_is_refused(pets):
    (pets / "test.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(ValueError, match="Parquet"):
        registry.dataset("parquet/pets").load(CONFIG)


def test_an_absent_parquet_set_says_what_to_download_where(root):
    member = registry.dataset("parquet/birds")
    assert f"--local-dir {root / 'parquet' / 'birds'}" in member.missing()
    with pytest.raises(FileNotFoundError, match=r"no file train\*.parquet"):
        member.load(CONFIG)


def test_a_parquet_name_never_leaves_the_data_root():
    with pytest.raises(ValueError, match=r"parquet: '../x' given"):
        parquet.member("../x")


@pytest.mark.usefixtures("pets")
def test_the_digest_depends_on_the_bytes_of_the_images(pets):
    member = registry.dataset("parquet/pets")
    before = member.load(CONFIG).source_digest
    assert member.load(dataclasses.replace(CONFIG, split_seed=1)).source_digest == before
    parquet._group.cache_clear()
    write_parquet(pets / "test.parquet", [0, 1] * 2, prefix="u")
    assert member.load(CONFIG).source_digest != before
    assert np.array_equal(member.load(CONFIG).test.labels, [0, 1, 0, 1])
