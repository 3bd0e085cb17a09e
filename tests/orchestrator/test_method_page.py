"""`peftgrid methods NAME`: complete for every method, readable at 80 columns, and valid YAML."""

import json
import re
import sys

import pytest

from adapters import describe, registry
from orchestrator.cli import main, method_page
from suites.load import loads

SUITE = """
schema: 1
suite: example
backbone: vit_base_patch16_224
datasets: [digits]
"""
every_method = pytest.mark.parametrize("name", registry.names("methods"))


@pytest.fixture
def printed(monkeypatch, capsys):
    """What `peftgrid methods ...` prints on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["peftgrid", "methods", *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    return run


@every_method
def test_a_module_opens_with_a_summary_and_an_equation_unless_it_adds_nothing(name):
    module = registry.method(name)
    summary, *rest = method_page.page(name)["text"].splitlines()
    assert summary.endswith(".")
    assert not rest or not rest[0]
    has_equation = any(re.match(r" {4}\S", line) for line in rest)
    assert has_equation or module.FAMILY in ("baseline", "selective")


@every_method
def test_every_setting_has_a_meaning(name):
    for setting in describe.settings(registry.method(name).Config):
        assert setting.meaning, f"{name}: a docstring under `{setting.name}`"
        assert setting.meaning.endswith("."), setting


@every_method
def test_the_page_names_every_setting_with_its_default(printed, name):
    lines = printed(name).splitlines()
    for setting in describe.settings(registry.method(name).Config):
        default = json.dumps(setting.default).replace('"', "")
        rows = [line for line in lines if line.startswith(f"{setting.name} ")]
        assert any(f"  {default}  " in row for row in rows), setting.name


@every_method
def test_a_page_fits_80_columns_but_for_equations(printed, name):
    text = method_page.page(name)["text"]
    for line in printed(name).splitlines():
        assert len(line) <= 80 or line in text.splitlines()
        assert line == line.rstrip()


@every_method
def test_the_words_of_the_docstring_are_all_there(printed, name):
    assert " ".join(registry.method(name).__doc__.split()) in " ".join(printed(name).split())


@every_method
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_example_is_the_method_at_its_defaults(name, width):
    example = method_page.page(name)["example"]
    block = method_page.example_block(example, width)
    (cell,) = loads(SUITE + block).cells()
    assert cell.spec.trial().method == name
    assert cell.spec.trial().method_config == registry.method(name).Config()


def test_a_page_is_known_by_what_it_says_of_lora(printed):
    out = printed("lora")
    assert "\n    y = W x + b + s B A dropout(x)," in out
    assert re.search(r"^family +low-rank$", out, re.MULTILINE)
    assert re.search(r"^source +arXiv:2106\.09685$", out, re.MULTILINE)
    assert re.search(r"^mergeable +yes$", out, re.MULTILINE)
    assert re.search(r"^trains on ViT-B +294,912 ", out, re.MULTILINE)


def test_a_wide_terminal_gets_lines_of_100_columns_at_most(printed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    lines = printed("lora").splitlines()
    assert 80 < max(map(len, lines)) <= 100


def test_a_method_without_settings_says_so(printed):
    assert printed("linear").endswith("It has no settings. In a suite:\n\nmethods:\n  - linear\n")


@every_method
def test_json_has_what_the_page_has(printed, name):
    found = json.loads(printed(name, "--json"))
    assert found == method_page.page(name)


def test_an_unknown_method_comes_with_the_nearest_one(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["peftgrid", "methods", "lorra"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert "unknown method 'lorra'. Did you mean 'lora'?" in err


def test_a_value_that_yaml_would_take_for_another_type_is_quoted():
    settings = {"name": "x", "a": "true", "b": "1e3", "c": ["q", "null"], "d": {"e": None}}
    line = method_page._yaml(settings)
    assert line == '{name: x, a: "true", b: "1e3", c: [q, "null"], d: {e: null}}'
