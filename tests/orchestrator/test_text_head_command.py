"""The command `text-head`, and what a plan says of a head that is not there."""

import hashlib

import pytest
import safetensors.torch

from adapters import clip_text
from orchestrator.plan import make_plan
from suites.load import loads
from tests.adapters.test_text_head import PlayedClip, open_clip  # noqa: F401 - a fixture

SUITE = """
schema: 1
suite: text
backbone: vit_tiny_fashion
methods: [linear]
datasets: [{{name: shapes_location, train: 48, val: 32, test: 48}}]
train: {{text_head: {{file: heads/x.safetensors, dim: 12, digest: {digest}}}}}
"""


def test_it_writes_a_head_and_the_line_of_a_suite(peftgrid, open_clip, tmp_path):  # noqa: F811
    (tmp_path / "names.txt").write_text("ab\n\nc\nabc\n")
    (tmp_path / "sentences.txt").write_text("a photo of a {}.\n")
    words = ("text-head", "names.txt", "--out", "head.safetensors", "--templates", "sentences.txt")
    code, out, err = peftgrid(*words)
    assert code == 0, err
    data = (tmp_path / "head.safetensors").read_bytes()
    assert safetensors.torch.load(data)["weight"].shape == (3, 3)
    assert "3 classes, 1 sentences for each, 3 numbers" in out
    assert f"file: head.safetensors, dim: 3, digest: {hashlib.sha256(data).hexdigest()}" in out


@pytest.mark.parametrize(
    ("names", "said"), [("none.txt", "none.txt"), ("empty.txt", "no line given")]
)
def test_names_that_cannot_be_read_are_told(peftgrid, open_clip, tmp_path, names, said):  # noqa: F811
    (tmp_path / "empty.txt").write_text("\n")
    code, _, err = peftgrid("text-head", names, "--out", "head.safetensors")
    assert code == 2
    assert said in err


def test_without_open_clip_it_says_what_to_install(peftgrid, monkeypatch):
    def absent():
        raise ImportError("open_clip is not installed: pip install 'peftgrid[clip]'")

    monkeypatch.setattr(clip_text, "_open_clip", absent)
    code, _, err = peftgrid("text-head", "imagenet", "--out", "head.safetensors")
    assert code == 2
    assert "peftgrid[clip]" in err


def test_a_plan_says_that_the_file_is_absent(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTGRID_DATA", str(tmp_path))
    suite = loads(SUITE.format(digest="a" * 64))
    absent = make_plan(suite, None).absent
    assert list(absent) == ["text head heads/x.safetensors"]
    assert str(tmp_path / "heads" / "x.safetensors") in absent["text head heads/x.safetensors"]
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "x.safetensors").write_bytes(b"")
    assert make_plan(suite, None).absent == {}


def test_a_wrong_setting_is_told_with_its_place():
    from suites.document import SuiteError

    with pytest.raises(SuiteError, match=r"7:.*digest.*64 hexadecimal digits"):
        loads(SUITE.format(digest="abc"))
