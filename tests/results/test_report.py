"""The report of a suite: what stands in it, that hostile text stays text, and its size."""

import base64
import dataclasses
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from orchestrator.cli import main
from results import render, schema
from results.errors import TableError
from results.record import Epoch, to_table
from results.report import commands, data, pack, page, text
from results.table import leaderboard

HOSTILE = "<script>alert(1)</script>\"onload=alert(2) x='</script><!--"
SUITE = """\
# Question: does it go on?
# Cost:     nothing
schema: 1
suite: demo
question: >
  Which one goes
  furthest?
seeds: 3
"""
VOID = {"meta", "link", "br", "input", "img", "hr"}


class Page(HTMLParser):
    """Checks that tags balance; keeps what loads something, scripts, styles and the cells of tables."""

    def __init__(self, source):
        super().__init__()
        self.open, self.loads, self.inline, self.rows, self.tags = [], [], {}, [], []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.loads += [v for k, v in attrs if k in ("src", "data", "srcset", "action", "poster")]
        if tag == "link":
            self.loads.append(given["href"])
        assert not [k for k in given if k.startswith("on") or k == "style"], given
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.kind = given.get("type", tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, found):
        if self.open and self.open[-1] in ("script", "style"):
            self.inline[self.kind] = self.inline.get(self.kind, "") + found
        elif self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += found

    @property
    def data(self):
        return json.loads(self.inline["application/json"])


@pytest.fixture
def told(store, worked, attempt, cell):
    """The worked store with a suite file, a failed run that was tried twice, and a curve."""
    hostile = cell("bad-1", HOSTILE, "mnist", 0)
    store.commit(
        attempt(
            "bad-1",
            status="failed",
            failure_kind="worker_lost",
            error=HOSTILE,
            evidence="Traceback " + HOSTILE,
            variant=HOSTILE,
            seed=0,
        )
    )
    store.save_decision("bad-1", 1, {"again": True, "reason": "a lost worker is tried again"})
    store.commit(attempt("bad-1", 2, status="failed", failure_kind="user_error", error=HOSTILE))
    run = attempt(
        "curve-1",
        variant="linear",
        seed=0,
        metrics={"test/top1": 0.5, "val/top1": 0.4},
        best_epoch=2,
        device="a device",
        git_commit="abc123",
        versions={"torch": "2"},
        epoch_seconds=1.5,
        ended_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    epochs = [
        Epoch(run_id="curve-1", attempt=1, epoch=n, split=split, loss=1 / n, top1=n / 10)
        for n in (1, 2, 3)
        for split in ("train", "val")
    ]
    store.commit(run, epochs)
    rows = [
        *worked,
        hostile,
        cell("curve-1", "linear", "mnist", 0),
        cell("later", "linear", "mnist", 1),
    ]
    store.save_plan("demo", "fedcba9876543210", SUITE, rows_of(rows), ["train.epochs=2"])
    return store


def rows_of(rows):
    return [dataclasses.replace(row, suite_digest="fedcba9876543210") for row in rows]


@pytest.fixture
def report(told):
    return data.read(told, "demo", provenance={"store": "store", "peftgrid": "1"})


def test_the_numbers_of_the_page_are_those_of_the_table(told, report):
    shown = render.shown(leaderboard(told, "demo", provenance=report.provenance))
    found = Page(page.html(report))
    assert found.rows == [shown.header, *shown.rows]
    assert found.data["board"]["rows"] == shown.rows
    assert found.data["board"]["remarks"] == shown.remarks


def test_the_state_counts_every_planned_cell(report):
    assert report.counts == {"succeeded": 19, "failed": 1, "queued": 1}
    found = Page(page.html(report))
    assert found.data["counts"] == report.counts
    assert found.data["planned"] == 21 == len(found.data["runs"])


def test_the_question_and_the_opening_lines_come_from_the_stored_suite(report):
    assert report.question == "Which one goes furthest?"
    assert report.description == ("Question: does it go on?", "Cost:     nothing")
    assert report.text == SUITE
    assert report.overrides == ("train.epochs=2",)


def test_hostile_text_stays_text(report):
    source = page.html(report)
    found = Page(source)
    assert found.tags.count("script") == 2
    assert "<script>alert" not in source
    assert source.count("</script>") == 2
    assert any(HOSTILE in line[0] for line in found.rows)
    assert HOSTILE in found.data["pool"]


def test_the_page_loads_nothing(report):
    source = page.html(report)
    assert Page(source).loads == ["data:,"]
    assert "@import" not in source
    assert "url(" not in source
    # The namespace of SVG is a name, not an address that is asked.
    assert set(re.findall(r"https?://[^\s\"'<]+", source)) == {"http://www.w3.org/2000/svg"}


def test_the_policy_allows_the_inline_script_and_style_alone(report):
    source = page.html(report)
    found = Page(source)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', source)[1]
    policy = policy.replace("&#39;", "'")
    for kind in ("script", "style"):
        digest = hashlib.sha256(found.inline[kind].encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_script_never_makes_html_of_text():
    script = (Path(page.__file__).parent / "static" / "report.js").read_text()
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
        assert forbidden not in script
    assert "</" not in script


def test_a_run_keeps_its_attempts_errors_and_decisions(report):
    held = pack.pack(report)
    (run,) = [dict(zip(held["columns"], r, strict=True)) for r in held["runs"] if r[0] == "bad-1"]
    first, second = (dict(zip(held["attempt_columns"], a, strict=True)) for a in run["attempts"])
    pool = held["pool"]
    assert pool[first["how"]] == {"status": "failed", "failure_kind": "worker_lost"}
    assert pool[first["evidence"]] == "Traceback " + HOSTILE
    assert pool[first["decision"]] == "a lost worker is tried again"
    assert (second["attempt"], second["decision"]) == (2, None)


def test_a_run_keeps_its_curve_spec_and_environment(report):
    held = pack.pack(report)
    (run,) = [dict(zip(held["columns"], r, strict=True)) for r in held["runs"] if r[0] == "curve-1"]
    pool = held["pool"]
    train, val = run["curve"]
    assert (pool[train[0]], pool[val[0]]) == ("train", "val")
    assert pool[train[1]] == [1, 2, 3]
    assert train[2] == [1, 0.5, 0.3333]
    assert train[3] == [1000, 2000, 3000]
    spec = {pool[name]: pool[value] for name, value in run["spec"]}
    assert spec["train"] == {"lr": 0.001, "epochs": 2}
    assert held["environments"] == [
        {"runs": 18},
        {"runs": 1, "device": "a device", "git_commit": "abc123", "versions": {"torch": "2"}},
    ]


def test_long_curves_are_thinned_and_keep_the_scored_and_the_last_epoch(report, monkeypatch):
    # Nothing fits, so they are thinned as far as it goes: of three epochs every fourth.
    monkeypatch.setattr(pack, "BYTES", 100)
    held = pack.pack(report)
    assert held["stride"] == 4
    (run,) = [r for r in held["runs"] if r[0] == "curve-1"]
    curve = run[held["columns"].index("curve")]
    assert held["pool"][curve[0][1]] == [1, 2, 3]
    later = dataclasses.replace(report.runs[-2], facts={})
    assert later.cell.run_id == "curve-1"
    held = pack.pack(dataclasses.replace(report, runs=(later,)))
    curve = held["runs"][0][held["columns"].index("curve")]
    assert held["pool"][curve[0][1]] == [1, 3]


def test_long_texts_are_cut_and_too_many_are_left_out(report, monkeypatch):
    monkeypatch.setattr(pack, "LONGEST", 30)
    monkeypatch.setattr(pack, "TEXT_CHARACTERS", 10)
    held = pack.pack(report)
    assert held["texts_left_out"]
    assert any(isinstance(v, str) and "characters left out]" in v for v in held["pool"])


def test_json_cannot_end_the_script_it_stands_in():
    hostile = {"a": "</script><!--&\u2028\u2029\ud800"}
    written = pack.to_json(hostile)
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == hostile
    written.encode()


def test_numbers_that_json_has_none_for_are_words(told, attempt, cell, worked):
    told.commit(attempt("nan-1", variant="linear", seed=9, metrics={"test/top1": float("nan")}))
    row = cell("nan-1", "linear", "mnist", 9)
    told.save_plan("demo", "fedcba9876543210", SUITE, rows_of([*worked, row]))
    held = Page(page.html(data.read(told, "demo"))).data
    (run,) = [r for r in held["runs"] if r[0] == "nan-1"]
    assert run[held["columns"].index("score")] is None
    assert run[held["columns"].index("metrics")] == ["nan"]


def test_without_cells_to_rank_it_says_why(store, cell):
    store.save_plan("demo", "0123456789abcdef", "x", [cell("a", "linear", "m", 0, stage="tune")])
    report = data.read(store, "demo")
    assert report.board is None
    for made in (page.html(report), text.markdown(report), text.latex(report)):
        assert "no cell of stage" in made


def test_an_unknown_suite_is_refused_with_the_known_ones(told):
    with pytest.raises(TableError, match="'other' given, allowed: demo"):
        data.read(told, "other")


@pytest.mark.parametrize(
    ("yaml", "question"),
    [
        ("question: What now?\nseeds: 1", "What now?"),
        ('question: "What: now?"\n', "What: now?"),
        ("question: one\n  two\nseeds: 1", "one two"),
        ("question: |\n  one\n  two", "one two"),
        ("seeds: 1\n# question: no", None),
    ],
)
def test_the_question_is_read_from_the_suite_file(yaml, question):
    from results.report._suite_text import question as read

    assert read(yaml) == question


def test_markdown_shows_hostile_text_as_text(report):
    made = text.markdown(report)
    outside = re.sub(r"```.*?```", "", made, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<", outside)
    assert "1 x user error: \\<script\\>alert(1)" in outside
    assert leaderboard_line(made, "lora") in report.board.to_markdown()
    assert made.startswith("# demo\n\nWhich one goes furthest?\n")


def leaderboard_line(made, name):
    return next(line for line in made.splitlines() if line.startswith(f"| {name}"))


def test_a_fence_is_longer_than_any_in_the_suite_file(told, worked):
    told.save_plan("demo", "0123456789abcdef", "# ````\n", worked)
    assert "`````yaml\n# ````\n`````" in text.markdown(data.read(told, "demo"))


def test_latex_is_a_whole_document_with_hostile_text_escaped(report):
    made = text.latex(report)
    assert made.index(r"\begin{document}") < made.index(r"\toprule") < made.index(r"\end{document}")
    assert r"\textless{}script\textgreater{}alert(1)" in made
    assert "<script" not in made
    assert made.count(r"\begin{") == made.count(r"\end{")


@pytest.mark.parametrize("question", [HOSTILE, "→ é Ħ 漢 😀 \\ { } $ % _ ^ ~ #", "[x] *y* -z"])
def test_latex_compiles_whatever_it_holds(report, tmp_path, question):
    latex = shutil.which("pdflatex") or pytest.skip("pdflatex is not installed")
    made = text.latex(dataclasses.replace(report, question=question))
    (tmp_path / "report.tex").write_text(made)
    words = [latex, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "report.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.fixture
def peftgrid(monkeypatch, capsys, told):
    """Run a command in the folder that holds the store; (exit code, standard output, standard error)."""
    monkeypatch.chdir(told.path.parent)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["peftgrid", *words])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("form", ["html", "markdown", "latex"])
def test_the_command_writes_the_file(peftgrid, form, tmp_path):
    code, out, err = peftgrid(
        *("report", "demo", "--store", "store", "--out", "new/r", "--format", form)
    )
    assert (code, err) == (0, "")
    assert "new/r: 21 runs of demo (1 failed, 1 queued, 19 succeeded), " in out
    assert "Which one goes furthest?" in (tmp_path / "new" / "r").read_text()


def test_the_command_says_what_it_wrote_as_json(peftgrid):
    _, out, _ = peftgrid(*("report", "demo", "--store", "store", "--out", "r.html", "--json"))
    assert json.loads(out) == {
        "out": "r.html",
        "bytes": Path("r.html").stat().st_size,
        "runs": 21,
        "succeeded": 19,
        "failed": 1,
        "queued": 1,
    }


def test_every_command_of_a_report_works(peftgrid, report):
    told = [*commands.of_suite(report), *commands.of_run(report)]
    tried = [shlex.split(line.replace("RUN_ID", "curve-1")) for _, line in told]
    assert {words[1] for words in tried} == {"status", "table", "query", "run", "report", "explain"}
    for words in tried:
        assert words[-2:] == ["--store", "store"]
        if words[1] == "run":
            assert words[2:5] == ["demo.yaml", "--set", "train.epochs=2"]
            continue
        code, out, err = peftgrid(*words[1:])
        assert (code, err) == (0, "")
        assert out


def test_the_query_of_the_means_gives_the_leaderboards_numbers(peftgrid, report):
    (line,) = [line for what, line in commands.of_suite(report) if what == "its means per data set"]
    _, out, _ = peftgrid(*shlex.split(line)[1:], "--format", "json")
    means = {(row["variant"], row["dataset"]): row["mean"] for row in json.loads(out)}
    for row in report.board.rows:
        for dataset, cell in row.cells.items():
            if cell.mean is not None:
                assert means[row.variant, dataset] == pytest.approx(cell.mean)


@pytest.mark.slow
def test_five_thousand_runs_fit_into_five_megabytes(store, cell, attempt, monkeypatch):
    attempts, epochs, rows = [], [], []
    versions = {"torch": "2.14.0", "timm": "1.0.20", "ray": "2.60.0", "python": "3.11.2"}
    metrics = [f"{s}/{m}" for s in ("val", "test") for m in ("top1", "top5", "nll", "ece")]
    for number in range(5000):
        variant, seed = f"lora[rank={number // 100 + 1}]", number % 10
        dataset, run_id = f"set{number // 10 % 10}", f"{number:016x}"
        values = dict.fromkeys(metrics, number * 7919 % 99991 / 99991)
        costs = {"train_seconds": 20 + number / 7, "epoch_seconds": 1 + number / 7000}
        costs |= {"eval_seconds": number / 13, "wall_seconds": number / 3}
        place = {"device": "a GPU", "hostname": f"node{number % 32}", "versions": versions}
        now = datetime(2026, 1, 1, number // 3600, number // 60 % 60, number % 60, tzinfo=UTC)
        when = {"started_at": now, "ended_at": now}
        common = {"variant": variant, "dataset": dataset, "seed": seed, "best_epoch": 20, **place}
        science = {"train": {"epochs": 20, "lr": 0.003}, "method": {"name": variant}, "seed": seed}
        science |= {f"part{n}": {"of": dataset, "n": n} for n in range(7)}
        known = {"config_id": f"{variant}{dataset}", "variant_id": variant, "data_digest": dataset}
        known |= {"weights_digest": "ab" * 32, "select_epoch": "best_val"}
        if number % 20 == 19:
            ended = {
                "status": "failed",
                "failure_kind": "user_error",
                "error": f"ValueError {number}",
            }
            ended["evidence"] = f"Traceback {number}\n" + "  File x, line y\n" * 120
        else:
            ended = {"metrics": values, **costs}
        made = attempt(run_id, **common, **known, **ended, **when)
        attempts.append(made.to_row())
        # No two curves are alike, so nothing is saved by sharing.
        epochs += [
            Epoch(
                run_id=run_id,
                attempt=1,
                epoch=n,
                split=split,
                loss=3 / (n + number / 977),
                top1=(number * 31 + n * 17) % 9973 / 9973,
            ).to_row()
            for n in range(1, 21)
            for split in ("train", "val")
        ]
        rows.append(cell(run_id, variant, dataset, seed, spec=json.dumps(science)))
    store.save_plan("demo", "0123456789abcdef", SUITE, rows)
    tables = to_table(attempts, schema.ATTEMPTS), to_table(epochs, schema.EPOCHS)
    monkeypatch.setattr(store, "attempts", lambda columns=None: tables[0])
    monkeypatch.setattr(store, "epochs", lambda: tables[1])
    made = page.html(data.read(store, "demo"))
    found = Page(made).data
    assert len(found["runs"]) == 5000
    assert found["stride"] <= 2
    assert not found["texts_left_out"]
    size = len(made.encode())
    print(f"{size} bytes, one epoch in {found['stride']}")
    assert 1_000_000 < size < 5_000_000
