"""The command `datasets`: what is listed, what is found wrong with images, and downloads."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from adapters import registry
from adapters.data import torchvision
from suites.load import loads

ENTRY = "{name: image_folder/pets, classes: 2, train: 6, val: 4}"


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root that holds image_folder/pets: six cats and dogs to train on, three to test."""
    monkeypatch.setenv("PEFTGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PEFTGRID_DATA", raising=False)
    number = 0
    for part, each in (("train", 6), ("test", 3)):
        for name in ("cat", "dog"):
            folder = tmp_path / "data" / "image_folder" / "pets" / part / name
            folder.mkdir(parents=True)
            for at in range(each):
                number += 1
                (folder / f"{at}.png").write_bytes(picture(number))
    return tmp_path / "data"


@pytest.fixture
def check(peftgrid, root, monkeypatch):
    def call(*words, entry=ENTRY):
        monkeypatch.delenv("PEFTGRID_DATA", raising=False)
        return peftgrid("datasets", "check", entry, "--data-root", root, *words)

    return call


def test_the_list_names_every_data_set_and_the_families_of_your_own(peftgrid):
    code, out, _ = peftgrid("datasets", "--json")
    rows = {row["data set"]: row for row in json.loads(out)}
    assert code == 0
    assert set(rows) >= {
        *registry.datasets(),
        "image_folder/NAME",
        "image_list/NAME",
        "parquet/NAME",
    }
    assert rows["digits"]["here"] == "yes"
    assert rows["vtab1k/cifar"]["here"].startswith("no: unpack")


def test_a_sound_data_set_is_told_with_its_counts_and_the_line_that_holds_runs_to_it(check):
    code, out, _ = check()
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "train          6 images, 3 to 3 of each of 2 classes"
    assert lines[2] == "test           6 images, 3 to 3 of each of 2 classes"
    assert lines[-1] == "image_folder/pets: sound"
    digest = lines[3].split()[1]
    assert lines[4].endswith(f"{{name: image_folder/pets, ..., digest: {digest}}}")
    code, out, _ = check(entry=ENTRY.replace("}", f", digest: {digest}}}"))
    assert (code, "(as declared)" in out) == (0, True)
    code, out, _ = check(entry=ENTRY.replace("}", f", digest: {'f' * 64}}}"))
    assert (code, f"{digest} found, declared is fff" in out) == (3, True)


def test_every_unreadable_image_is_named(check, root):
    folder = root / "image_folder" / "pets" / "test" / "cat"
    for at in (0, 2):
        (folder / f"{at}.png").write_bytes(picture(1)[:200])
    code, out, _ = check("--json")
    found = json.loads(out)
    assert code == 3
    assert set(found["unreadable"]) == {"test/cat/0.png", "test/cat/2.png"}
    assert len(found["problems"]) == 2


def test_a_test_image_that_is_also_trained_on_is_a_leak(check, root):
    pets = root / "image_folder" / "pets"
    for at in range(6):  # whichever of them are drawn
        (pets / "train" / "dog" / f"{at}.png").write_bytes(
            (pets / "test" / "cat" / "1.png").read_bytes()
        )
    code, out, _ = check()
    assert code == 3
    assert "test image test/cat/1.png is also train image train/dog/" in out


def test_the_indices_name_the_images_of_every_set(check, tmp_path):
    assert check("--indices", tmp_path / "indices.json")[0] == 0
    named = json.loads((tmp_path / "indices.json").read_text())
    assert {kind: len(names) for kind, names in named.items()} == {"train": 6, "val": 4, "test": 6}
    assert not set(named["train"]) & set(named["val"])
    assert all(name.startswith("test/") for name in named["test"])


@pytest.mark.parametrize(
    ("entry", "code", "said"),
    [
        ("{name: image_folder/none, classes: 2, train: 1, val: 1}", 2, "not on this machine"),
        ("{name: image_folder/pets, classes: 3, train: 6, val: 4}", 3, "classes"),
        (
            "{name: image_folder/pets, classes: 2, train: 60, val: 4}",
            3,
            "train + val: 64 images given",
        ),
        ("{name: image_folder/pets, classes: 2}", 2, "train: None given"),
        ("no_such_set", 2, "no_such_set"),
    ],
)
def test_what_cannot_be_checked_says_why(check, entry, code, said):
    found, _, err = check(entry=entry)
    assert (found, said in err) == (code, True), err


def test_get_downloads_what_can_be_downloaded(peftgrid, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(torchvision, "download", asked.append)
    code, out, _ = peftgrid("datasets", "get", "torchvision/dtd", "--data-root", tmp_path)
    assert (code, asked) == (0, ["dtd"])
    assert out == "torchvision/dtd: now on this machine\n"


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("vtab1k/cifar", 2, "unpack the processed VTAB-1K"),
        ("torchvision/stanford_cars", 2, "can no longer download it"),
        ("no_such_set", 2, "no_such_set"),
    ],
)
def test_get_says_what_to_do_where_it_can_do_nothing(peftgrid, tmp_path, name, code, said):
    found, _, err = peftgrid("datasets", "get", name, "--data-root", tmp_path)
    assert (found, said in err) == (code, True), err


def test_the_data_root_is_no_part_of_a_runs_identity(tmp_path, monkeypatch):
    text = (
        f"schema: 1\nsuite: s\nbackbone: vit_tiny_fashion\nmethods: [linear]\ndatasets: [{ENTRY}]\n"
    )
    ids = []
    for folder in ("a", "b"):
        monkeypatch.setenv("PEFTGRID_DATA", str(tmp_path / folder))
        ids.append(next(loads(text).cells()).spec.run_id)
    assert ids[0] == ids[1]
