"""What a folder must give so that a store is safe in it."""

from pathlib import Path

import pytest

from results import files, probe


def problems(folder):
    return {each.what: each.problem for each in probe.probe(folder) if each.problem}


def test_a_local_folder_keeps_everything_and_nothing_is_left_behind(tmp_path):
    found = probe.probe(tmp_path)
    assert [each.problem for each in found] == [None] * 4
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_yet_is_tried_where_it_would_be_made(tmp_path):
    assert problems(tmp_path / "new" / "store") == {}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file_is_told(tmp_path, monkeypatch):
    def refuse(self, *args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert problems(tmp_path) == {"takes files": f"{tmp_path}: Permission denied"}


def test_a_file_system_without_hard_links_is_told(tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    found = problems(tmp_path)
    assert "Operation not supported" in found["of many who create a file, one wins"]


def test_a_file_system_on_which_several_win_is_told(tmp_path, monkeypatch):
    def overwrite(path, data):
        path.write_bytes(data)
        return True

    monkeypatch.setattr(probe, "create_exclusive", overwrite)
    assert "8 were told" in problems(tmp_path)["of many who create a file, one wins"]


def test_a_replacement_that_is_seen_half_done_is_told(tmp_path, monkeypatch):
    def slowly(self, target):
        Path(target).write_bytes(b"")
        Path(target).write_bytes(self.read_bytes())
        self.unlink()

    monkeypatch.setattr(Path, "replace", slowly)
    monkeypatch.setattr(probe, "REPLACEMENTS", 5000)
    assert "of 4096 bytes" in problems(tmp_path)["a replaced file is whole at any moment"]


def test_a_folder_that_shows_files_late_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "listed", lambda folder: [])
    assert "not seen at once" in problems(tmp_path)["what is written is seen at once"]


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_says_yes_or_no(tmp_path, monkeypatch, capsys, as_json):
    from orchestrator.cli import main

    words = ["peftgrid", "doctor", "--store", str(tmp_path), *(["--json"] if as_json else [])]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert ("problem" if as_json else "yes  takes files") in capsys.readouterr().out
    monkeypatch.setattr(probe, "create_exclusive", lambda path, data: bool(path.write_bytes(data)))
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert files.create_exclusive is not probe.create_exclusive
    assert "would not be safe here" in capsys.readouterr().err
