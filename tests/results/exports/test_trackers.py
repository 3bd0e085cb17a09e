"""MLflow, TensorBoard and W&B: what was written is read back by the tool's own reader."""

import json
import math
import struct

import pytest

from results import exports
from results.exports import to_mlflow, to_wandb
from tests.results.exports.conftest import ERROR, EVIL, START, skip_unless_installed


@pytest.fixture(scope="module")
def folders():
    """Each tool writes once: MLflow makes its tables for seconds."""
    return {}


@pytest.fixture
def written(study, folders, tmp_path_factory):
    """Export to a tool, or skip where it is not installed; the folder."""

    def write(to):
        skip_unless_installed(to)
        if to not in folders:
            folders[to] = tmp_path_factory.mktemp(to)
            exports.write(study, "demo", to, folders[to])
        return folders[to]

    return write


@pytest.fixture
def mlflow_runs(written):
    out = written("mlflow")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("demo")
    runs = client.search_runs([experiment.experiment_id])
    return client, {run.data.tags["peftgrid.run_id"]: run for run in runs}


@pytest.mark.slow
def test_mlflow_has_settings_scores_and_costs(mlflow_runs):
    _, runs = mlflow_runs
    good = runs["good"]
    assert good.info.run_name == "lora[rank=8] mnist seed 0"
    assert good.data.params["params.rank"] == "8"
    assert good.data.params["train.lr"] == "0.001"
    assert good.data.metrics["scored/test/top1"] == 0.1 + 0.2
    assert math.isnan(good.data.metrics["scored/test/nll"])
    assert good.data.metrics["cost/trainable_params"] == 1234
    assert good.data.tags["peftgrid.versions.torch"] == "2.14.0"
    assert good.info.start_time == round(1000 * START.timestamp())
    assert good.info.end_time - good.info.start_time == 120_000


@pytest.mark.slow
def test_mlflow_has_the_curve_by_epoch(mlflow_runs):
    client, runs = mlflow_runs
    history = client.get_metric_history(runs["good"].info.run_id, "val/loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 2.0)]


@pytest.mark.slow
def test_mlflow_tells_how_a_run_ended(mlflow_runs):
    _, runs = mlflow_runs
    status = {run_id: run.info.status for run_id, run in runs.items()}
    assert status == {"good": "FINISHED", "bad": "FAILED", "halted": "KILLED"}
    assert runs["bad"].data.tags["peftgrid.error"] == ERROR
    assert not [name for name in runs["bad"].data.metrics if name.startswith("scored/")]
    assert runs["bad"].data.params["params.a/_/b"] == "=1+1"
    assert runs["halted"].info.start_time == round(1000 * START.timestamp())


@pytest.mark.parametrize(
    ("name", "clean"),
    [("a/../b", "a/_/b"), ("/etc", "_/etc"), ("x=$(y)", "x___y_"), ("a b:c-d.e_f", "a b:c-d.e_f")],
)
def test_mlflow_takes_every_name(name, clean):
    assert to_mlflow._name(name) == clean


@pytest.mark.slow
def test_mlflow_text_and_batches_beyond_its_limits(store, cell, attempt, tmp_path):
    skip_unless_installed("mlflow")
    row = cell("r", "lora", "mnist", 0)
    store.save_plan("demo", row.suite_digest, "text", [row])
    params = {f"p{n}": "x" * 9000 for n in range(150)}
    metrics = {f"test/m{n}": n / 7 for n in range(1500)}
    store.commit(attempt("r", params=params, metrics=metrics, error="e" * 9000))
    exports.write(store, "demo", "mlflow", tmp_path / "out")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert len(run.data.metrics) == 1500
    assert len([name for name in run.data.params if name.startswith("params.")]) == 150
    assert run.data.params["params.p3"] == "x" * 6000
    assert len(run.data.tags["peftgrid.error"]) == 8000


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def hparams(found, tag):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = found.SummaryMetadata(tag).plugin_data.content
    return HParamsPluginData.FromString(content)


@pytest.fixture
def board(written):
    out = written("tensorboard")
    folders = {path.name.rpartition("_")[2]: path for path in out.iterdir() if path.is_dir()}
    assert set(folders) == {"good", "bad", "halted"}
    return out, {run_id: events(path) for run_id, path in folders.items()}


def test_tensorboard_has_the_curves_per_split(board):
    _, runs = board
    points = runs["good"].Scalars("train/loss")
    assert [(point.step, point.value) for point in points] == [(1, 2.0), (2, 1.0)]
    assert points[0].wall_time == pytest.approx(START.timestamp() + 120)
    assert [point.value for point in runs["good"].Scalars("val/loss")] == [3.0, 2.0]
    (score,) = runs["good"].Scalars("scored/test/top1")
    assert score.value == pytest.approx(0.3)
    assert math.isnan(runs["bad"].Scalars("train/loss")[0].value)


def test_tensorboard_has_a_session_of_hyperparameters_per_run(board):
    out, runs = board
    session = hparams(runs["good"], "_hparams_/session_start_info").session_start_info
    assert session.hparams["params.rank"].number_value == 8
    assert session.hparams["method"].string_value == "lora"
    assert session.start_time_secs == pytest.approx(START.timestamp())
    experiment = hparams(events(out), "_hparams_/experiment").experiment
    assert {"params.rank", "train.lr", "seed"} <= {info.name for info in experiment.hparam_infos}
    assert "scored/test/top1" in {info.name.tag for info in experiment.metric_infos}


def test_tensorboard_tells_how_a_run_ended(board):
    from tensorboard.plugins.hparams.api_pb2 import Status

    _, runs = board
    status = {
        run_id: Status.Name(hparams(found, "_hparams_/session_end_info").session_end_info.status)
        for run_id, found in runs.items()
    }
    assert status == {
        "good": "STATUS_SUCCESS",
        "bad": "STATUS_FAILURE",
        "halted": "STATUS_UNKNOWN",
    }
    assert not [tag for tag in runs["bad"].Tags()["scalars"] if tag.startswith("scored/")]
    text = runs["bad"].Tensors("facts")[0].tensor_proto.string_val[0].decode()
    assert "    status: failed\n" in text
    assert "<script>alert(1)</script>" in text
    assert all(line.startswith("    ") for line in text.splitlines())


def test_tensorboard_folders_of_hostile_names_stay_inside(board):
    out, _ = board
    (bad,) = out.glob("*_bad")
    assert bad.parent == out
    assert bad.name == "_.._evil_[rank=1]_mnist_seed_1_bad"
    assert EVIL not in bad.name


def wandb_records(path):
    """The records of a .wandb file: LevelDB's log format after a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


@pytest.fixture
def wandb_runs(written):
    (folder,) = written("wandb").glob("wandb")
    files = {path.stem.removeprefix("run-"): path for path in folder.glob("offline-run-*/*.wandb")}
    assert len(files) == len(list(folder.iterdir())) == 3
    return {run_id: list(wandb_records(path)) for run_id, path in files.items()}


def only(records, kind):
    return [getattr(r, kind) for r in records if r.WhichOneof("record_type") == kind]


def values(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def summary(records):
    found = {}
    for record in only(records, "summary"):
        found |= values(record.update)
    return found


def test_wandb_has_settings_and_curves(wandb_runs):
    run = only(wandb_runs["good"], "run")[0]
    assert (run.project, run.run_id) == ("demo", "good")
    assert run.display_name == "lora[rank=8] mnist seed 0"
    assert (run.host, run.job_type) == ("node1", "single")
    config = values(run.config.update)
    assert (config["params.rank"], config["train.lr"]) == (8, 0.001)
    history = [values(record.item) for record in only(wandb_runs["good"], "history")]
    assert [(row["epoch"], row["train/loss"]) for row in history] == [(1, 2.0), (2, 1.0)]


def test_wandb_tells_how_a_run_ended(wandb_runs):
    codes = {k: only(records, "exit")[-1].exit_code for k, records in wandb_runs.items()}
    assert codes == {"good": 0, "bad": 1, "halted": 1}
    good, bad = (summary(wandb_runs[name]) for name in ("good", "bad"))
    assert good["scored/test/top1"] == 0.1 + 0.2
    assert (bad["status"], bad["error"]) == ("failed", ERROR)
    assert not [name for name in bad if name.startswith("scored/")]


def test_wandb_knows_nothing_of_the_machine_that_exports(wandb_runs):
    for records in wandb_runs.values():
        assert not only(records, "stats")
        assert not only(records, "environment")
        assert not any(run.HasField("git") for run in only(records, "run"))


def test_wandb_settings_that_must_hold_exist():
    skip_unless_installed("wandb")
    import wandb

    quiet = to_wandb._QUIET
    assert set(quiet) <= set(wandb.Settings.model_fields)
    settings = wandb.Settings(**quiet)
    assert settings.mode == "offline"
