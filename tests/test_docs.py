"""README and program say the same: commands run, names exist, links resolve, examples are valid."""

import contextlib
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from adapters import registry
from orchestrator.cli import app, main
from orchestrator.driver import save
from orchestrator.plan import make_plan
from results.store import Store
from suites import catalog
from suites.load import load, loads
from tests.untrained import commit_untrained

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
DOCS = [path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))]
# Starting runs takes minutes: the smoke suite is run by test_packaging.py, the others by `make`.
# `serve` ends when it is told to, `stop` needs somebody to stop: test_server.py and test_watch.py.
STARTS = ("run", "resume", "serve", "stop")


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands():
    """Every line of the consoles in README, CONTRIBUTING and docs/, as words."""
    lines = [
        line.removeprefix("$ ")
        for text in (README, CONTRIBUTING, *DOCS)
        for block in blocks(text, "console")
        for line in block.splitlines()
    ]
    return [shlex.split(line, comments=True) for line in lines]


PEFTGRID = [words[1:] for words in commands() if words[0].endswith("peftgrid")]


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(
        re.findall(r"`make ([a-z-]+)`|^\$ make ([a-z-]+)", README + CONTRIBUTING, re.MULTILINE)
    )
    assert {a or b for a, b in named} <= targets
    assert all(words[0] == "make" or words[0].endswith("peftgrid") for words in commands())


def test_the_readme_counts_the_methods():
    assert f"{len(registry.names('methods'))} of them (`peftgrid methods`)" in README


def test_every_command_of_the_program_is_in_the_readme():
    known = {c.name or c.callback.__name__ for c in app.registered_commands}
    known |= {group.typer_instance.info.name for group in app.registered_groups}
    named = {words[0] for words in PEFTGRID} | set(re.findall(r"`peftgrid ([a-z-]+)", README))
    assert named == known


@pytest.mark.parametrize("words", PEFTGRID, ids=" ".join)
def test_a_command_of_the_docs_works(words, monkeypatch, tmp_path, capsys):
    if words[0] in STARTS:
        assert words[1] in catalog.names()
        return
    if words[0] == "export":
        for module in import_module(f"results.exports.to_{words[3]}").NEEDS:
            pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    store = Store.open("runs", create=True)
    suite = load("smoke")
    plan = make_plan(suite, store)
    save(suite, store, plan)
    spec = next(run.cell.spec for run in plan.runs if run.cell.spec.method == "lora")
    commit_untrained(store, spec)
    run_id = spec.run_id
    words = [run_id[:8] if word == "RUN_ID" else word for word in words]
    monkeypatch.setattr(sys, "argv", ["peftgrid", *words])
    with contextlib.suppress(SystemExit):
        main()
    out, err = capsys.readouterr()
    assert out
    assert not err


def test_the_suite_of_the_readme_is_valid():
    (text,) = blocks(README, "yaml")
    suite = loads(text)
    # 1 linear + 2 lora + 2 tucker3 + 1 ia3 on two data sets, less ia3 on materials; three seeds
    assert sum(1 for _ in suite.cells()) == (6 * 2 - 1) * 3


def test_the_python_of_the_readme_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Store.open("runs", create=True)
    names = {}
    for code in blocks(README, "python"):
        exec(code, names)
    assert len(names["runs"]) == 0
    logits = [names[name].vit.eval()(names["images"]) for name in ("adapted", "loaded")]
    assert torch.equal(*logits)


def test_every_link_resolves():
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_file_that_contributing_names_exists():
    for name in re.findall(r"`([a-z_/]+\.(?:py|json))`", CONTRIBUTING):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("name", catalog.names())
def test_a_shipped_suite_opens_with_question_command_cost_and_expectation(name):
    head = catalog.path(name).read_text().split("schema:")[0]
    for word in ("# Question:", f"# Command:  peftgrid run {name}", "# Cost:", "# Expect:"):
        assert word in head
    assert load(name).question in head.replace("\n#           ", " ")
