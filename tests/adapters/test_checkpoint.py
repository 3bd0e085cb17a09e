"""Checkpoints on disk: exact, refused where damaged or of another run, whole or not there at all."""

import errno
import os
import resource
import signal

import pytest
import torch
from safetensors.torch import load_file

from adapters import checkpoint
from adapters.checkpoint import CheckpointFolder
from adapters.training.snapshot import Snapshot

TENSORS = {
    "trained/a": torch.linspace(-1, 1, 7),
    "trained/b": torch.tensor([[1.0, -0.0], [float("inf"), 1e-40]]),
    "optimizer/step/a": torch.tensor(3.0),
    "best/half": torch.arange(5).bfloat16(),
    "hook/x/chosen": torch.tensor([True, False, True]),
    "hook/x/order": torch.arange(4),
    "hook/x/none": torch.zeros(0, 3),
    "rng/cpu": torch.get_rng_state()[:11],
    "buffer/turned": torch.arange(6.0).view(2, 3).t(),
}
CURVE = [{"epoch": 1, "loss": 0.1 + 0.2, "metrics": {"x": 1e-17}, "lr": None}]


def folder(path, attempt=1, **other):
    belongs = {"spec_hash": "abc", "semantics": {"lora": 1, "training": 1}}
    return CheckpointFolder(path, attempt=attempt, **(belongs | other))


def kept(step, tensors=TENSORS):
    return Snapshot(epoch=1, step=step, tensors=tensors, state={"curve": CURVE})


def three(path):
    """Three checkpoints of two attempts, of which two are left: 1.2 at step 2 and 2.1 at step 3."""
    first = folder(path)
    first.save(kept(1))
    first.save(kept(2))
    folder(path, 2).save(kept(3))


def names(path):
    return sorted(file.name for file in path.iterdir())


WHOLE = ["1.2.json", "1.2.safetensors", "2.1.json", "2.1.safetensors"]


def test_tensors_and_numbers_come_back_as_they_were(tmp_path):
    folder(tmp_path).save(kept(4))
    back = folder(tmp_path, 2).load()
    assert (back.epoch, back.step, back.state) == (1, 4, {"curve": CURVE})
    assert back.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert back.tensors[name].dtype == tensor.dtype
        assert torch.equal(back.tensors[name], tensor)
    assert torch.signbit(back.tensors["trained/b"][0, 1])


def test_the_tensors_are_a_plain_safetensors_file(tmp_path):
    folder(tmp_path).save(kept(4))
    loaded = load_file(tmp_path / "1.1.safetensors")
    assert checkpoint.digest(loaded) == checkpoint.digest(TENSORS)
    # Mapped from the file, each tensor must lie where its elements may.
    assert all(tensor.data_ptr() % tensor.element_size() == 0 for tensor in loaded.values())


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path):
    reader = folder(tmp_path / "missing")
    assert reader.load() is None
    assert reader.reasons == []


def test_the_newest_two_are_kept_and_a_later_attempt_is_newer(tmp_path):
    three(tmp_path)
    assert names(tmp_path) == WHOLE
    reader = folder(tmp_path, 3)
    assert reader.load().step == 3
    assert reader.reasons == []


def test_attempts_and_counters_are_numbers_and_not_text(tmp_path):
    writer = folder(tmp_path, 9)
    for step in range(11):
        writer.save(kept(step))
    assert folder(tmp_path, 10).load().step == 10
    folder(tmp_path, 10).save(kept(11))
    assert folder(tmp_path, 11).load().step == 11


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


DAMAGES = [flip, truncate, lambda path: path.unlink(), lambda path: path.write_bytes(b"")]


@pytest.mark.parametrize("damage", DAMAGES, ids=["flip", "truncate", "delete", "empty"])
@pytest.mark.parametrize("ending", ["json", "safetensors"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, damage, ending):
    three(tmp_path)
    damage(tmp_path / f"2.1.{ending}")
    reader = folder(tmp_path, 3)
    assert reader.load().step == 2
    (reason,) = reader.reasons
    assert reason.startswith("checkpoint 2.1 was not used: ")


def test_no_flipped_byte_of_the_json_goes_unnoticed(tmp_path):
    folder(tmp_path).save(kept(1))
    path = tmp_path / "1.1.json"
    data = path.read_bytes()
    for index in range(len(data)):
        path.write_bytes(data[:index] + bytes([data[index] ^ 4]) + data[index + 1 :])
        assert folder(tmp_path).load() is None, data[: index + 1]


def test_two_damaged_checkpoints_leave_none_and_both_reasons(tmp_path):
    three(tmp_path)
    flip(tmp_path / "2.1.safetensors")
    flip(tmp_path / "1.2.safetensors")
    reader = folder(tmp_path, 3)
    assert reader.load() is None
    assert [reason.split()[1] for reason in reader.reasons] == ["2.1", "1.2"]
    assert all("its tensors have digest" in reason for reason in reader.reasons)


def test_a_damaged_checkpoint_does_not_push_out_a_good_one(tmp_path):
    three(tmp_path)
    flip(tmp_path / "2.1.json")
    writer = folder(tmp_path, 3)
    writer.load()
    writer.save(kept(5))
    assert names(tmp_path) == ["1.2.json", "1.2.safetensors", "3.1.json", "3.1.safetensors"]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"spec_hash": "xyz"}, "spec_hash: 'abc' given, allowed: 'xyz'"),
        ({"semantics": {"lora": 2}}, "semantics: {'lora': 1, 'training': 1} given, allowed: "),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path, other, reason):
    folder(tmp_path).save(kept(1))
    reader = folder(tmp_path, 2, **other)
    assert reader.load() is None
    assert reason in reader.reasons[0]


def test_another_format_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    folder(tmp_path).save(kept(1))
    monkeypatch.undo()
    reader = folder(tmp_path)
    assert reader.load() is None
    assert "format: 2 given, allowed: 1" in reader.reasons[0]


def test_what_a_killed_writer_left_is_no_checkpoint_and_goes_with_the_next(tmp_path):
    three(tmp_path)
    whole = (tmp_path / "2.1.safetensors").read_bytes()
    (tmp_path / "2.2.safetensors").write_bytes(whole)  # killed before the JSON
    (tmp_path / ".2.3.safetensors.part").write_bytes(whole[:100])
    reader = folder(tmp_path, 3)
    assert reader.load().step == 3
    assert len(reader.reasons) == 2
    assert "2.2 was not used: it has no JSON, which is written last" in reader.reasons[1]
    reader.save(kept(4))
    assert names(tmp_path) == ["2.1.json", "2.1.safetensors", "3.1.json", "3.1.safetensors"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("which", [1, 2])
def test_a_failed_write_leaves_the_older_ones_and_nothing_new(tmp_path, monkeypatch, call, which):
    three(tmp_path)
    calls = []
    original = os.fsync if call == "fsync" else type(tmp_path).replace

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == which:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*arguments)

    monkeypatch.setattr(os if call == "fsync" else type(tmp_path), call, failing)
    with pytest.raises(OSError, match="No space left"):
        folder(tmp_path, 3).save(kept(4))
    monkeypatch.undo()
    assert names(tmp_path) == WHOLE
    assert folder(tmp_path, 3).load().step == 3


def test_a_disk_that_fills_up_in_the_middle_of_the_tensors(tmp_path):
    """The system's own limit on the size of a file stands for the disk's end."""
    three(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            folder(tmp_path, 3).save(kept(4, TENSORS | {"trained/big": torch.zeros(100_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(tmp_path) == WHOLE
    assert folder(tmp_path, 3).load().step == 3


def test_a_writer_of_an_older_attempt_changes_nothing_that_counts(tmp_path):
    three(tmp_path)
    folder(tmp_path, 1).save(kept(9))
    assert folder(tmp_path, 3).load().step == 3


def test_clear_removes_the_folder_and_may_be_called_twice(tmp_path):
    three(tmp_path / "run")
    folder(tmp_path / "run").clear()
    folder(tmp_path / "run").clear()
    assert names(tmp_path) == []


def test_every_epochs_is_at_least_one(tmp_path):
    with pytest.raises(ValueError, match="every_epochs: 0 given"):
        folder(tmp_path, every_epochs=0)
