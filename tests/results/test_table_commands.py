"""`peftgrid table` and `peftgrid compare` on a store that was worked out by hand."""

import csv
import io
import json
import sys

import pytest

from orchestrator.cli import main

TABLE = """\
demo: test/top1, mean +- sample standard deviation over seeds; (n/m): only n of m runs have a score yet

variant                  mnist            digits            shapes    mean     IQM  rank  wins
------------  ----------------  ----------------  ----------------  ------  ------  ----  ----
lora[rank=8]  0.8000 +- 0.1000  0.6000 +- 0.0000  0.4000 +- 0.1000  0.5500  0.6000  1.33     2
bitfit        0.6000 +- 0.0000  0.7000 +- 0.1000  0.2000 +- 0.1000  0.4250  0.5400  1.67     1
"""


@pytest.fixture
def peftgrid(monkeypatch, capsys, store, worked):
    """Run a command over the store; (exit code, standard output, standard error)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["peftgrid", *words, "--store", str(store.path)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return run


def test_the_table_is_the_one_worked_out(peftgrid):
    columns = "datasets,mean,iqm,rank,wins"
    code, out, err = peftgrid("table", "demo", "--columns", columns)
    assert (code, err) == (0, "")
    assert out.startswith(TABLE)
    assert "\nfrom: suite demo; metric test/top1; store store; generation 0; peftgrid " in out


def test_text_fits_unless_it_is_to_be_wide(peftgrid):
    _, narrow, _ = peftgrid("table")
    _, wide, _ = peftgrid("table", "--wide")
    assert max(map(len, narrow.splitlines())) <= 120 < max(map(len, wide.splitlines()))
    assert "natural" in wide.splitlines()[2]
    assert "(--wide shows them): groups" in narrow


def test_csv_of_another_metric(peftgrid):
    _, out, _ = peftgrid("table", "--format", "csv", "--metric", "test/nll")
    first, _second = csv.DictReader(io.StringIO(out))
    assert (first["variant"], first["metric"]) == ("lora[rank=8]", "test/nll")
    assert float(first["mean"]) == pytest.approx(0.45)


def test_latex_is_a_table_of_booktabs(peftgrid):
    _, out, _ = peftgrid("table", "--format", "latex")
    lines = out.splitlines()
    assert [line for line in lines if line.endswith("rule")] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
    ]
    assert any(line.startswith(r"lora{[}rank=8{]} & 0.8000 $\pm$ 0.1000 &") for line in lines)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("table", "--metric", "test/auc"), "'test/auc' given"),
        (("table", "--metric", "top1"), "'top1' given"),
        (("table", "--columns", "menas"), "columns: 'menas' given, allowed: datasets"),
        (
            ("compare", "lora", "vera"),
            "'vera' given, which no name begins with; allowed: bitfit, lora[rank=8]",
        ),
        (("compare", "lora"), "at least two"),
        (("compare", "lora", "bitfit", "--suite", "other"), "suite: other given, allowed: demo"),
    ],
)
def test_what_cannot_be_had_is_refused(peftgrid, words, says):
    code, out, err = peftgrid(*words)
    assert (code, out) == (2, "")
    assert says in " ".join(err.replace("│", " ").split())


def test_compare_says_what_may_be_claimed(peftgrid):
    code, out, err = peftgrid("compare", "lora", "bitfit", "--suite", "demo")
    assert (code, err) == (0, "")
    first, *rest = out.splitlines()
    assert first == "lora[rank=8] and bitfit: no claim: p = 0.203, needed below 0.05"
    (numbers,) = [line.split() for line in rest if line.startswith("(1) - (2)")]
    assert numbers[3:5] == ["9", "+0.1250"]
    assert numbers[6:9] == ["0.52", "2/3", "0.704"]
    assert numbers[10:] == ["0.203", "0.203"]


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_compare_in_other_forms(peftgrid, form):
    code, out, _ = peftgrid("compare", "lora", "bitfit", "--format", form)
    assert code == 0
    assert "+0.1250" in out


def test_compare_in_json(peftgrid):
    _, out, _ = peftgrid("compare", "lora", "bitfit", "--format", "json")
    assert json.loads(out)["pairs"][0]["difference"] == pytest.approx(0.125)
