"""The tables of a store: one fixed, versioned Arrow schema each, every column documented.

New columns may be added at any time and are nullable; a column is never renamed, retyped or given
another meaning. Readers conform every file to the schema declared here, so files of older
versions read with nulls.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple, get_args

import pyarrow as pa

SCHEMA_VERSION = 4
"""Stands in the metadata of every Parquet file; raised with each added column."""

STATUSES = ("succeeded", "failed", "stopped", "pruned")
"""How an attempt can end. queued, running, missing and waiting come from plans and claims."""

FailureKind = Literal[
    "launch",
    "data",
    "user_error",
    "non_finite",
    "out_of_memory_host",
    "out_of_memory_device",
    "worker_lost",
    "stalled",
    "timeout",
    "preempted",
    "storage",
    "unknown",
]
"""Why an attempt failed. Which of them are tried again is `orchestrator.retry`."""
FAILURE_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)

TEXT = pa.string()
INT = pa.int64()
REAL = pa.float64()
FLAG = pa.bool_()
TIME = pa.timestamp("us", tz="UTC")
TEXT_MAP = pa.map_(pa.string(), pa.string())
INT_MAP = pa.map_(pa.string(), pa.int64())
REAL_MAP = pa.map_(pa.string(), pa.float64())


class Column(NamedTuple):
    """One column of a table."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""


_IDENTITY = (
    Column("run_id", TEXT, "identity of the run: hash of its complete science"),
    Column("config_id", TEXT, "the same without the seed"),
    Column("variant", TEXT, "method and its parameters, readable"),
    Column(
        "variant_id", TEXT, "method and its parameters, hashed; without data set, recipe and seed"
    ),
    Column("spec", TEXT, "the complete science of the run, canonical JSON"),
    Column(
        "semantics", INT_MAP, "version of the code behind each part, raised when numbers may change"
    ),
    Column("backbone", TEXT, "the pretrained ViT"),
    Column("weights_digest", TEXT, "digest of the backbone's weights as loaded, SHA-256"),
    Column("method", TEXT, "the PEFT method"),
    Column("rank", TEXT, "the method's rank: 8 or 3x8x8; null where it has none"),
    Column("params", TEXT_MAP, "the method's parameters"),
    Column("dataset", TEXT, "the data set"),
    Column("dataset_group", TEXT, "natural, specialised or structured"),
    Column("data_digest", TEXT, "digest of the source images and labels as loaded, SHA-256"),
    Column("seed", INT, "seed of the run"),
)

_OUTCOME = (
    Column("status", TEXT, " | ".join(STATUSES)),
    Column("failure_kind", TEXT, "of a failed attempt: " + " | ".join(FAILURE_KINDS)),
    Column("error", TEXT, "of a failed attempt: the error in words"),
    Column(
        "adapted",
        FLAG,
        "whether batches went in parts or as kept features, so bits may differ",
    ),
    Column(
        "select_epoch", TEXT, "rule that chose the scored epoch: best_val, last_epoch, oracle_test"
    ),
    Column("best_epoch", INT, "the epoch whose weights were scored, from 1"),
    Column("train_top1", REAL, "accuracy on the training images, scored epoch", "fraction"),
    Column("val_top1", REAL, "accuracy on the validation images, scored epoch", "fraction"),
    Column("test_top1", REAL, "accuracy on the test images, scored epoch", "fraction"),
    Column("test_nll", REAL, "negative log-likelihood on the test images", "nats per image"),
    Column("test_ece", REAL, "expected calibration error on the test images, 15 bins", "fraction"),
    Column("metrics", REAL_MAP, "every metric of the scored epoch, by split/metric"),
)

_COST = (
    Column("trainable_params", INT, "elements that train, head included, at the start"),
    Column("adapter_params", INT, "of these, the method's own"),
    Column("head_params", INT, "of these, the classification head's"),
    Column("total_params", INT, "elements of the adapted model"),
    Column("trainable_percent", REAL, "100 * trainable_params / total_params", "percent"),
    Column(
        "active_params",
        INT,
        "elements still training at the end, head included; null unless some were frozen",
    ),
    Column(
        "active_subspaces", INT, "subspaces still training at the end; null unless some were frozen"
    ),
    Column(
        "model_bytes", INT, "size of the stored model: trained tensors and their buffers", "bytes"
    ),
    Column("model_file", TEXT, "file of the trained tensors, relative to the store"),
    Column("model_digest", TEXT, "SHA-256 of that file"),
    Column("predictions_file", TEXT, "file of the test logits, relative to the store"),
    Column("predictions_digest", TEXT, "SHA-256 of that file"),
    Column("train_seconds", REAL, "all training epochs, without evaluation", "seconds"),
    Column("epoch_seconds", REAL, "median training epoch, without the first", "seconds"),
    Column("eval_seconds", REAL, "all evaluations", "seconds"),
    Column("wall_seconds", REAL, "from start to end of the attempt", "seconds"),
    Column("queue_seconds", REAL, "from claim to start of the attempt", "seconds"),
    Column("images_per_second", REAL, "training throughput", "images per second"),
    Column(
        "peak_memory_bytes", INT, "most device memory in training; on a CPU, growth of RSS", "bytes"
    ),
    Column("cost_comparable", FLAG, "false where the device was shared or features were cached"),
)

_PLACE = (
    Column("device", TEXT, "kind of device: the CPU's or GPU's name"),
    Column("device_share", REAL, "share of one device that the job held", "fraction"),
    Column("threads", INT, "CPU threads that torch used"),
    Column("cpu_capability", TEXT, "vector instructions that torch used"),
    Column("precision", TEXT, "fp32 or bf16"),
    Column("hostname", TEXT, "the machine"),
    Column("versions", TEXT_MAP, "packages and Python, by name"),
    Column("git_commit", TEXT, "commit of the code, where it ran from a checkout"),
    Column("git_dirty", FLAG, "whether that checkout had uncommitted changes"),
    Column("created_at", TIME, "when the attempt was claimed", "UTC"),
    Column("started_at", TIME, "when the attempt started", "UTC"),
    Column("ended_at", TIME, "when the attempt ended", "UTC"),
)

_ATTEMPT = (
    Column("attempt", INT, "number of the attempt at this run, from 1"),
    Column("job", TEXT, "name of the Ray Train job"),
    Column("node", TEXT, "identity of the Ray node"),
    Column(
        "resumed_from_epoch", INT, "last epoch taken over from a checkpoint; null from the start"
    ),
    Column("evidence", TEXT, "of a failed attempt: traceback or what the watcher saw"),
    Column("log_path", TEXT, "the job's log, relative to the store where it lies in it"),
    Column("epochs_file", TEXT, "file of the attempt's epochs, relative to the store"),
    Column("epochs_digest", TEXT, "SHA-256 of that file"),
)

ATTEMPTS = _IDENTITY + _OUTCOME + _COST + _PLACE + _ATTEMPT
"""One row per attempt, also the failed ones."""

RUNS = (
    _IDENTITY
    + _OUTCOME
    + _COST
    + _PLACE
    + (Column("attempts", INT, "attempts so far, this included"),)
)
"""One row per run that was attempted: its first success, else its latest attempt."""

EPOCHS = (
    Column("run_id", TEXT, "the run"),
    Column("attempt", INT, "number of the attempt"),
    Column("epoch", INT, "number of the epoch, from 1"),
    Column("split", TEXT, "train, val or test"),
    Column("loss", REAL, "mean loss per image", "nats"),
    Column("top1", REAL, "accuracy", "fraction"),
    Column("lr", REAL, "learning rate at the end of the epoch"),
    Column("grad_norm", REAL, "median 2-norm of the gradient over the epoch's steps"),
    Column("seconds", REAL, "duration", "seconds"),
    Column("images_per_second", REAL, "throughput", "images per second"),
    Column("metrics", REAL_MAP, "further metrics, by name"),
)
"""One row per attempt, epoch and split."""

PLANS = (
    Column("suite", TEXT, "name of the suite"),
    Column("suite_digest", TEXT, "digest of what the suite asks for"),
    Column("plan", INT, "number of the plan among the suite's plans, from 1"),
    Column("position", INT, "place of the cell in the plan, from 0"),
    Column("stage", TEXT, "single, tune or final"),
    Column("run_id", TEXT, "the run; null while the final's winner is not known"),
    Column("config_id", TEXT, "the run without its seed"),
    Column("selected_from", TEXT, "config_id of the tuning cell that a final came from"),
    Column("axes", TEXT_MAP, "the cell's value on each axis of the suite"),
    Column("variant", TEXT, "method and its parameters, readable"),
    Column("variant_id", TEXT, "method and its parameters, hashed"),
    Column("backbone", TEXT, "the pretrained ViT"),
    Column("method", TEXT, "the PEFT method"),
    Column("dataset", TEXT, "the data set"),
    Column("seed", INT, "seed of the run"),
    Column("spec", TEXT, "the complete science of the run, canonical JSON"),
    Column("trainable_params", INT, "elements that will train, or at most, head included"),
    Column("adapter_params", INT, "of these, the method's own"),
    Column("total_params", INT, "elements of the adapted model"),
    Column("overrides", TEXT, "what --set changed in the suite, JSON list"),
)
"""One row per planned cell; as a view, the latest plan of each suite."""

EVALUATIONS = (
    Column("run_id", TEXT, "the trained run"),
    Column("set", TEXT, "the data set, with its settings and corruption if any"),
    Column("split", TEXT, "which images were scored: always test"),
    Column(
        "mode",
        TEXT,
        "trained | zero_shot (before training) | all, head (WiSE: what is between the two)",
    ),
    Column("alpha", REAL, "0 is the model before training, 1 the trained one"),
    Column("own", FLAG, "whether the set is the run's own test set, as it is"),
    Column("corruption", TEXT, "what was done to the images; null: nothing"),
    Column("severity", INT, "how much, 1 to 5"),
    Column("images", INT, "how many were scored"),
    Column("top1", REAL, "accuracy", "fraction"),
    Column("nll", REAL, "negative log-likelihood", "nats per image"),
    Column("ece", REAL, "expected calibration error, 15 bins", "fraction"),
    Column("loss", REAL, "mean cross-entropy", "nats per image"),
    Column("metrics", REAL_MAP, "every metric, by name"),
    Column("seconds", REAL, "of scoring", "seconds"),
    Column("set_digest", TEXT, "digest of the set's source images and labels, SHA-256"),
    Column("model_digest", TEXT, "SHA-256 of the file of the trained tensors"),
    Column("device", TEXT, "kind of device: the CPU's or GPU's name"),
    Column("threads", INT, "CPU threads that torch used"),
    Column("versions", TEXT_MAP, "packages and Python, by name"),
    Column("git_commit", TEXT, "commit of the code, where it ran from a checkout"),
    Column("git_dirty", FLAG, "whether that checkout had uncommitted changes"),
    Column("created_at", TIME, "when it was scored", "UTC"),
)
"""One row per trained run, set, split, mode and alpha: see `results.evaluations`."""

VIEWS = {
    "runs": RUNS,
    "attempts": ATTEMPTS,
    "epochs": EPOCHS,
    "plans": PLANS,
    "evaluations": EVALUATIONS,
}
"""What SQL can select from."""


def chosen(
    table: tuple[Column, ...], keys: Collection[str], names: Iterable[str] | None
) -> tuple[Column, ...]:
    """The columns of a table that are keys or named; all where None is given."""
    wanted = None if names is None else {*keys, *names}
    return tuple(column for column in table if wanted is None or column.name in wanted)


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """The columns as an Arrow schema; every column is nullable."""
    return pa.schema([(column.name, column.type) for column in columns])
