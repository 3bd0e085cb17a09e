"""export-model: what each form gives back, and who is refused."""

import sys

import pytest
import safetensors.torch
import torch

import adapters
from adapters import backbones
from orchestrator.cli import main
from results.store import Store
from tests.adapters.vits import perturb
from tests.untrained import commit_untrained

IMAGES = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def trained(make_suite, tmp_path):
    """By method: the run's id and its adapted ViT, in the store of the folder."""

    def commit(methods):
        store = Store.open(tmp_path / "runs", create=True)
        (cell,) = make_suite("export", methods=f"[{methods}]").cells()
        adapted = commit_untrained(store, cell.spec, change=perturb)
        return cell.spec.run_id, adapted.vit.eval()

    return commit


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    def run(*words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["peftgrid", *words])
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        return code, capsys.readouterr()

    return run


@torch.no_grad()
@pytest.mark.parametrize(
    "methods", ["lora", "{combine: [lora, {name: ia3, targets: [fc2]}]}", "full"]
)
def test_a_merged_model_is_a_plain_checkpoint_of_the_backbone(trained, command, tmp_path, methods):
    run_id, vit = trained(methods)
    code, said = command("export-model", run_id[:6], "--out", "model.safetensors")
    assert code == 0, said.err
    assert "vit.load_state_dict(" in said.out
    plain = backbones.create("vit_tiny_fashion")
    plain.reset_classifier(16)
    plain.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    torch.testing.assert_close(plain(IMAGES), vit(IMAGES), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_an_adapter_and_a_peft_folder_give_the_same_logits(trained, command, tmp_path):
    run_id, vit = trained("{name: lora, rank: 2, targets: [q, fc1]}")
    assert command("export-model", run_id, "--out", "a.safetensors", "--form", "adapter")[0] == 0
    loaded = adapters.load(backbones.create("vit_tiny_fashion"), tmp_path / "a.safetensors")
    assert torch.equal(loaded.vit(IMAGES), vit(IMAGES))

    assert command("export-model", run_id, "--out", "folder", "--form", "peft")[0] == 0
    import peft

    plain = backbones.create("vit_tiny_fashion")
    plain.reset_classifier(16)
    peft_vit = peft.PeftModel.from_pretrained(plain, tmp_path / "folder").eval()
    torch.testing.assert_close(peft_vit(IMAGES), vit(IMAGES), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "form", "words"),
    [
        ("vpt_deep", "merged", "methods with MERGEABLE = True; export it with --form adapter"),
        ("bitfit", "peft", "bitfit: given for a PEFT folder, allowed: dora, ia3, lora, miss, vera"),
        ("adamss", "peft", "works out the row partition again and stores none"),
    ],
)
def test_a_form_that_a_method_has_not_is_refused_with_the_one_it_has(
    trained, command, tmp_path, method, form, words
):
    run_id, _ = trained(method)
    code, said = command("export-model", run_id, "--out", "x", "--form", form)
    assert code == 2
    assert words in said.err
    assert not (tmp_path / "x").exists()


def test_what_is_not_there_and_what_is_there_already_are_refused(trained, command, tmp_path):
    run_id, _ = trained("lora")
    assert "no run" in command("export-model", "zzzz", "--out", "x")[1].err
    (tmp_path / "x").write_text("mine")
    code, said = command("export-model", run_id, "--out", "x")
    assert (code, (tmp_path / "x").read_text()) == (2, "mine")
    assert "which exists" in said.err
    (model,) = (tmp_path / "runs" / "models").iterdir()
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    code, said = command("export-model", run_id, "--out", "y")
    assert code == 2
    assert "its digest is" in said.err
