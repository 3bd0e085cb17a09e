"""The command line as the tests of this room call it."""

import sys

import pytest

from orchestrator.cli import main


@pytest.fixture
def peftgrid(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder; (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["peftgrid", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run
