"""`peftgrid cost` as a user meets it."""

import json
import sys

import pytest
import torch

from orchestrator.cli import main

SUITE = """
schema: 1
suite: small
backbone: vit_tiny_fashion
methods: [{name: lora, rank: [1, 2]}, vpt_shallow]
datasets: [fashion_mnist, shapes_count]
seeds: 2
"""
QUICK = ("--batch-size", "1", "--rounds", "5", "--device", "cpu")
TINY = ("--backbone", "vit_tiny_fashion")


@pytest.fixture
def cost(monkeypatch, capsys, tmp_path):
    """Run `peftgrid cost` in an empty folder; (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["peftgrid", "cost", *words])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_every_variant_of_a_suite_is_measured_once(cost, tmp_path):
    (tmp_path / "small.yaml").write_text(SUITE)
    code, out, _ = cost("small.yaml", *QUICK, "--json")
    found = json.loads(out)
    assert code == 0
    rows = {row["variant"]: row for row in found["variants"]}
    assert list(rows) == ["lora[rank=1]", "lora[rank=2]", "vpt_shallow"]
    one, two = rows["lora[rank=1]"], rows["lora[rank=2]"]
    assert one["unmerged"]["gmacs"] < two["unmerged"]["gmacs"]
    assert one["merged"]["gmacs"] == two["merged"]["gmacs"] == one["plain"]["gmacs"]
    assert rows["vpt_shallow"]["merged"] is None
    assert (found["batch_size"], found["rounds"], found["device"]) == (1, 5, "cpu")
    assert found["threads"] == 1


def test_the_threads_are_as_asked_while_it_measures_alone(cost, monkeypatch):
    usual, seen = torch.get_num_threads(), []

    def measure(*args, **kwargs):
        seen.append(torch.get_num_threads())
        raise ValueError("enough")

    monkeypatch.setattr("adapters.cost.inference_cost", measure)
    with pytest.raises(ValueError, match="enough"):
        cost("--method", "ia3", *TINY, "--threads", "3")
    assert seen == [3]
    assert torch.get_num_threads() == usual


def test_methods_are_named_as_in_suites(cost):
    code, out, _ = cost(
        *("--method", "houlsby", "--method", "{name: lora, rank: [1, 2]}"), *TINY, *QUICK
    )
    assert code == 0
    head, *lines = out.splitlines()
    assert head.split()[:4] == ["backbone", "variant", "trainable", "GMACs"]
    assert [line.split()[1] for line in lines[:3]] == ["houlsby", "lora[rank=1]", "lora[rank=2]"]
    assert "houlsby on vit_tiny_fashion is not merged: merge: houlsby given" in out
    assert "batches of 1, median of 5 passes" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("quickstart", "--method", "ia3"), "--method: given beside a suite"),
        (TINY, "--backbone: given without --method"),
        (("--method", "lorra", *TINY), "Did you mean 'lora'"),
        (("--method", "{name: lora, rank: 0}", *TINY), "at least 1"),
        (("--method", "ia3", "--backbone", "vit_nothing"), "unknown backbone"),
        (("--rounds", "4"), "--rounds"),
        (("no_such_suite",), "no_such_suite"),
    ],
)
def test_what_cannot_be_measured_is_refused(cost, words, says):
    code, out, err = cost(*words)
    assert (code, out) == (2, "")
    assert says in err


def test_a_backbone_that_is_not_here_is_named_with_the_command_that_gets_it(cost):
    code, out, err = cost("--method", "ia3", "--backbone", "vit_base_patch16_224")
    assert (code, out) == (2, "")
    assert "get it with: peftgrid backbones --fetch vit_base_patch16_224" in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_here_is_refused(cost):
    code, _, err = cost("--method", "ia3", *TINY, "--device", "cuda")
    assert code == 2
    assert "allowed: cpu" in err
