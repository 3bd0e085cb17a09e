"""What holds for every target: what is refused, what is written, what is left behind."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import main
from results import exports
from results.exports import ExportError, to_csv
from results.exports._runs import read, safe
from tests.results.exports.conftest import EVIL, skip_unless_installed


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["peftgrid", "export", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        return code, capsys.readouterr()

    return run


def test_the_targets_are_the_files():
    files = Path(exports.__file__).parent.glob("to_*.py")
    assert sorted(f"to_{name}" for name in exports.names()) == sorted(path.stem for path in files)
    assert {"csv", "mlflow", "peft", "tensorboard", "wandb"} <= set(exports.names())


# MLflow makes its tables one by one, which takes many seconds.
TARGETS = [
    pytest.param(to, marks=pytest.mark.slow) if to == "mlflow" else to for to in exports.names()
]


@pytest.mark.parametrize("to", TARGETS)
def test_every_run_with_a_row_is_written_without_torch_and_nothing_leaves_the_folder(
    study, tmp_path, to
):
    skip_unless_installed(to)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    code = (
        "import sys, pathlib, results\n"
        "from results import exports\n"
        f"exports.write(results.open({str(study.path)!r}), 'demo', {to!r}, pathlib.Path('out'))\n"
        "print(*({m.partition('.')[0] for m in sys.modules} & {'torch', 'ray', 'adapters'}))"
    )
    root = Path(exports.__file__).parents[2]
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "PATH": "", "HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
    written = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (written["runs"], written["planned"]) == (3, 5)
    assert written["statuses"] == {"succeeded": 1, "failed": 1, "stopped": 1}
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(tmp_path / "out") or path.is_relative_to(home) for path in new)
    assert len(new) > 1


@pytest.mark.parametrize("to", exports.names())
def test_a_target_says_what_it_writes_and_what_opens_it(tmp_path, to):
    skip_unless_installed(to)
    target = exports.load(to)
    assert len(target.__doc__.splitlines()) > 5
    assert str(tmp_path / "x y") in target.how_to_open(tmp_path / "x y").replace("'", "")


def test_the_command_says_what_it_wrote_and_what_it_could_not(study, tmp_path, command):
    out = tmp_path / "out"
    code, said = command("demo", "--to", "csv", "--out", out, "--store", study.path)
    assert code == 0
    assert f"{out}: 3 runs of demo (1 failed, 1 stopped, 1 succeeded)" in said.out
    assert "2 of 5 planned runs have no result yet" in said.out
    assert "pandas.read_csv(" in said.out
    assert not said.err


def test_the_command_prints_json_for_machines(study, tmp_path, command):
    out = tmp_path / "out"
    _, said = command("demo", "--to", "csv", "--out", out, "--store", study.path, "--json")
    told = json.loads(said.out)
    assert told["runs"] == 3
    assert told == json.loads((out / "export.json").read_text())


def test_what_was_written_says_where_it_comes_from(study, tmp_path, command):
    study.compact()
    command("demo", "--to", "csv", "--out", tmp_path / "out", "--store", study.path)
    written = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (written["store"], written["generation"]) == (study.path.name, "1")
    assert written["peftgrid"] == importlib.metadata.version("peftgrid")


@pytest.mark.parametrize(
    ("suite", "to", "words"),
    [
        ("nope", "csv", "suite: 'nope' given, allowed: demo, other"),
        ("demo", "excel", "--to: 'excel' given, allowed: csv, "),
        ("demo", "../csv", "--to: '../csv' given"),
    ],
)
def test_what_is_unknown_is_refused_by_name(study, tmp_path, command, suite, to, words):
    code, said = command(suite, "--to", to, "--out", tmp_path / "out", "--store", study.path)
    assert code == 2
    assert words in said.err
    assert not (tmp_path / "out").exists()


def test_a_suite_without_an_attempt_is_refused(store, cell, tmp_path):
    row = cell("r", "lora", "mnist", 0)
    store.save_plan("demo", row.suite_digest, "text", [row])
    with pytest.raises(ExportError, match="none of whose 1 runs was attempted yet"):
        exports.write(store, "demo", "csv", tmp_path / "out")


def test_a_folder_with_something_in_it_is_left_alone(study, tmp_path, command):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    code, said = command("demo", "--to", "csv", "--out", out, "--store", study.path)
    assert code == 2
    assert "which is not empty (mine.txt)" in said.err
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_a_file_is_no_folder(study, tmp_path, command):
    (tmp_path / "out").write_text("mine")
    code, said = command("demo", "--to", "csv", "--out", tmp_path / "out", "--store", study.path)
    assert code == 2
    assert "which is no folder" in said.err
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_in_the_store_is_refused(study):
    with pytest.raises(ExportError, match="which is in the store"):
        exports.write(study, "demo", "csv", study.path / "attempts" / "x")


def test_an_empty_folder_is_taken(study, tmp_path):
    assert exports.write(study, "demo", "csv", tmp_path / "a" / "b")["runs"] == 3
    shutil.rmtree(tmp_path / "a" / "b")
    (tmp_path / "a" / "b").mkdir()
    assert exports.write(study, "demo", "csv", tmp_path / "a" / "b")["runs"] == 3


def test_a_missing_package_is_told_before_anything_is_written(
    study, tmp_path, command, monkeypatch
):
    monkeypatch.setattr(exports, "_is_installed", lambda module: module != "wandb")
    out = tmp_path / "out"
    code, said = command("demo", "--to", "wandb", "--out", out, "--store", study.path)
    assert code == 2
    assert 'pip install "wandb>=' in said.err
    assert not out.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_did_not_end_is_removed(study, tmp_path, monkeypatch, error):
    def export(source, out, progress):
        (out / "half").mkdir()
        (out / "half" / "file").write_text("x")
        (out / "link").symlink_to(tmp_path / "keep")
        raise error

    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "file").write_text("x")
    monkeypatch.setattr(to_csv, "export", export)
    with pytest.raises((ExportError, KeyboardInterrupt)) as raised:
        exports.write(study, "demo", "csv", tmp_path / "out")
    assert raised.type is KeyboardInterrupt or "No space left" in str(raised.value)
    assert list((tmp_path / "out").iterdir()) == []
    assert (tmp_path / "keep" / "file").exists()


def test_the_attempt_that_stands_for_the_run_is_exported(study):
    good = read(study, "demo").runs[0]
    assert (good.row["status"], good.row["attempt"], good.row["attempts"]) == ("succeeded", 2, 2)
    assert [numbers["train/loss"] for _, numbers in good.curves()] == [2.0, 1.0]


def test_a_run_that_failed_has_no_scores(study):
    good, bad, halted = read(study, "demo").runs
    assert good.scores()["scored/test/top1"] == 0.1 + 0.2
    assert bad.row["metrics"]
    assert bad.scores() == halted.scores() == {}
    assert bad.facts()["status"] == "failed"


def test_settings_are_typed_and_flat(study):
    assert read(study, "demo").runs[0].settings() == {
        "method": "lora",
        "dataset": "mnist",
        "backbone": "vit",
        "seed": 0,
        "params.rank": 8,
        "params.alpha": 0.1 + 0.2,
        "params.targets": '["q", "v"]',
        "train.lr": 0.001,
        "train.epochs": 2,
    }


@pytest.mark.parametrize("text", [EVIL, "..", "/etc/passwd", "a\0b", "C:\\x", ".hidden", "x" * 999])
def test_a_name_is_one_harmless_part_of_a_path(text):
    name = safe(text)
    assert not set(name) & set("/\\\0:")
    assert not name.startswith(".")
    assert len(name) <= 120
