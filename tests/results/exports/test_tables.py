"""The CSV files and PEFT's frame, read back by pandas."""

import csv
import json

import pandas as pd
import pytest

from results import exports
from results.exports import _cells
from results.exports.to_peft import SCHEMA
from results.schema import EPOCHS, RUNS
from tests.results.exports.conftest import ERROR, START


def frame(path):
    """As the docstring of `to_csv` says."""
    exact = {} if int(pd.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}
    return pd.read_csv(path, keep_default_na=False, na_values=["", "nan"], **exact)


@pytest.fixture
def out(study, tmp_path):
    exports.write(study, "demo", "csv", tmp_path / "csv")
    exports.write(study, "demo", "peft", tmp_path / "peft")
    return tmp_path


def test_pandas_reads_the_runs_back_with_equal_values(out, study):
    runs = frame(out / "csv" / "runs.csv")
    assert list(runs["run_id"]) == ["good", "bad", "halted"]
    good, failed = runs.iloc[0], runs.iloc[1]
    assert good["test_top1"] == good["metrics.test/top1"] == 0.1 + 0.2
    assert pd.isna(good["metrics.test/nll"])
    assert good["params.alpha"] == 0.1 + 0.2
    assert good["params.targets"] == '["q", "v"]'
    assert good["axes.method.rank"] == 8
    assert (good["trainable_params"], good["adapted"], good["attempt"]) == (1234, False, 2)
    assert pd.Timestamp(good["started_at"]) == START
    assert good["started_at"].endswith("+00:00")
    assert json.loads(good["spec"]) == json.loads(study.plan("demo")[0].spec)
    assert (failed["status"], failed["failure_kind"]) == ("failed", "non_finite")
    assert pd.isna(good["error"])


def test_every_column_of_the_schema_is_there_and_maps_are_spread(out):
    columns = list(frame(out / "csv" / "runs.csv").columns)
    flat = [column.name for column in RUNS if "map" not in str(column.type)]
    assert set(flat) <= set(columns)
    assert not {"params", "metrics", "versions", "semantics", "axes"} & set(columns)
    assert {"versions.torch", "params.rank", "metrics.val/top1"} <= set(columns)
    assert [name for name in columns if name in flat] == flat


def test_pandas_reads_the_epochs_back_with_equal_values(out):
    epochs = frame(out / "csv" / "epochs.csv")
    good = epochs[epochs["run_id"] == "good"]
    assert list(good["loss"]) == [2.0, 3.0, 1.0, 2.0]
    assert list(good["split"]) == ["train", "val"] * 2
    assert set(good["attempt"]) == {2}
    assert good["metrics.ece"].iloc[1] == 0.1 + 0.2
    assert list(epochs.columns)[:-1] == [c.name for c in EPOCHS if c.name != "metrics"]
    assert epochs[epochs["run_id"] == "bad"]["loss"].isna().all()


def test_hostile_text_stays_in_its_cell(out):
    with (out / "csv" / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert rows[1]["error"] == "'" + ERROR.replace("\0", "\ufffd")
    assert rows[1]["params.a/../b"] == "'=1+1"
    assert frame(out / "csv" / "runs.csv")["error"][1] == rows[1]["error"]


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1"])
def test_text_that_a_spreadsheet_would_run_is_guarded(text):
    assert _cells.cell(text) == "'" + text


@pytest.mark.parametrize("text", ["-1", "+2.5", "-1e-5", "-.5", "plain", "a=b", "", "1-2"])
def test_numbers_and_plain_text_are_not_touched(text):
    assert _cells.cell(text) == text


def test_numbers_are_written_in_full():
    assert _cells.cell(-0.1 - 0.2) == "-0.30000000000000004"
    assert _cells.cell(-(2**60)) == str(-(2**60))
    assert (_cells.cell(True), _cells.cell(None)) == ("true", "")


def test_the_frame_of_peft_has_what_is_known_and_null_for_the_rest(out):
    frame = pd.read_parquet(out / "peft" / "method_comparison.parquet")
    assert list(frame.columns) == SCHEMA.names
    (row,) = frame.to_dict("records")
    assert row["experiment_name"] == "lora/vit-mnist-lora[rank=8]-seed0-good"
    assert (row["peft_type"], row["model_id"], row["task_name"]) == ("LORA", "vit", "mnist")
    assert (row["total_time"], row["train_time"]) == (20.5, 12.75)
    assert (row["test_accuracy"], row["train_loss"]) == (0.1 + 0.2, 1.0)
    assert (row["num_trainable_params"], row["file_size"]) == (1234, 4096)
    assert row["accelerator_memory_max"] == 2**20
    assert row["created_at"] == START
    assert row["torch_version"] == "2.14.0"
    assert json.loads(row["peft_config"]) == {
        "peft_type": "LORA",
        "rank": 8,
        "alpha": 0.1 + 0.2,
        "targets": ["q", "v"],
    }
    assert json.loads(row["train_config"]) == {
        "model_id": "vit",
        "seed": 0,
        "lr": 0.001,
        "epochs": 2,
    }
    unknown = ["forgetting*", "train_samples", "train_total_tokens", "peft_version", "peft_branch"]
    unknown += ["transformers_version", "datasets_version", "bitsandbytes_version"]
    unknown += ["accelerator_memory_reserved_avg", "accelerator_memory_reserved_99th"]
    assert frame[unknown].isna().all(axis=None)


def test_the_frame_takes_the_types_of_peft(out):
    frame = pd.read_parquet(out / "peft" / "method_comparison.parquet")
    names = ["experiment_name", "model_id", "peft_type", "created_at"]
    assert len(frame.sort_values("created_at").drop_duplicates(names, keep="last")) == 1
    assert pd.api.types.is_datetime64_any_dtype(frame["created_at"])
    assert frame["train_time"].round().astype(int).tolist() == [13]


def test_what_did_not_succeed_is_beside_the_frame_of_peft_with_its_error(out):
    others = frame(out / "peft" / "not_finished.csv")
    assert list(others["run_id"]) == ["bad", "halted"]
    assert list(others["status"]) == ["failed", "stopped"]
    assert others["error"][0].startswith("'=HYPERLINK")


def test_a_cpu_has_no_accelerator_memory(store, cell, attempt, tmp_path):
    row = cell("r", "full", "mnist", 0)
    store.save_plan("demo", row.suite_digest, "text", [row])
    store.commit(attempt("r", method="full", device="cpu:x", peak_memory_bytes=2**20))
    exports.write(store, "demo", "peft", tmp_path / "out")
    (row,) = frame(tmp_path / "out" / "method_comparison.csv").to_dict("records")
    assert pd.isna(row["accelerator_memory_max"])
    assert row["peft_type"] == "full-finetuning"


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\r\nb", 'a"b', "a,b", "a;b", " a "])
def test_a_cell_is_read_back_as_it_was(tmp_path, text):
    _cells.write(tmp_path / "x.csv", ["a", "b"], [{"a": text, "b": 1}, {"b": 2}])
    read = frame(tmp_path / "x.csv")
    assert (read["a"][0], list(read["b"])) == (text, [1, 2])
