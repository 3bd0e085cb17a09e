"""The flat frame of Hugging Face PEFT's method comparison, as Parquet and as CSV.

`method_comparison.parquet` has the columns, in the order, that `load_df` in PEFT's
`method_comparison/processing.py` makes for its task MetaMathQA, so that its tables and plots take
both. What a vision run does not have, or this store does not know, is null in every row. Values
that need a word:

* `experiment_name`: `<method>/<backbone>-<dataset>-<variant>-seed<seed>-<run_id>`;
  `task_name` is the data set, `model_id` the backbone;
* `peft_type`: the method's name here in capitals, `full-finetuning` for `full`, as PEFT writes it.
  Not all of these methods are PEFT's;
* `train_config`, `peft_config`, `package_info`, `system_info`: JSON;
* `total_time`, `train_time`: seconds, not rounded: the whole attempt, and training without
  evaluation;
* `train_loss`: of the scored epoch; `num_trainable_params`: with the classification head;
* `accelerator_memory_max`: most memory allocated on the GPU; null for a run on a CPU;
* `file_size`: bytes of the stored model: adapter, head and their buffers.

As in PEFT's frame only runs that succeeded are in it. The others are in `not_finished.csv` with
their status and error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from results.exports import Progress, _cells
from results.exports._runs import Run, Source
from results.schema import INT, REAL, TEXT, TIME

NEEDS: dict[str, str] = {}
SCHEMA = pa.schema(
    {
        "experiment_name": TEXT,
        "peft_type": TEXT,
        "total_time": REAL,
        "train_time": REAL,
        "test_accuracy": REAL,
        "train_loss": REAL,
        "accelerator_memory_max": INT,
        "accelerator_memory_reserved_99th": INT,
        "accelerator_memory_reserved_avg": INT,
        "num_trainable_params": INT,
        "file_size": INT,
        "created_at": TIME,
        "task_name": TEXT,
        "forgetting*": REAL,
        "model_id": TEXT,
        "train_config": TEXT,
        "peft_config": TEXT,
        "train_samples": INT,
        "peft_version": TEXT,
        "peft_branch": TEXT,
        "transformers_version": TEXT,
        "datasets_version": TEXT,
        "torch_version": TEXT,
        "package_info": TEXT,
        "system_info": TEXT,
        "train_total_tokens": INT,
        "bitsandbytes_version": TEXT,
    }
)
_UNFINISHED = ("run_id", "variant", "dataset", "seed", "status", "failure_kind", "error")


def export(source: Source, out: Path, progress: Progress) -> int:
    """Write the frame of the runs that succeeded, and the list of those that did not."""
    runs = list(progress(source.runs))
    rows = [_row(run) for run in runs if run.succeeded]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), out / "method_comparison.parquet")
    _cells.write(out / "method_comparison.csv", SCHEMA.names, rows)
    others = (run.row for run in runs if not run.succeeded)
    return len(rows) + _cells.write(out / "not_finished.csv", _UNFINISHED, others)


def how_to_open(out: Path) -> str:
    """What opens the result."""
    return f"pandas.read_parquet({str(out / 'method_comparison.parquet')!r})"


def _row(run: Run) -> dict[str, Any]:
    row, versions = run.row, run.row["versions"] or {}
    on_gpu = str(row["device"]).startswith("cuda:")
    label = f"{row['backbone']}-{row['dataset']}-{row['variant']}-seed{row['seed']}-{row['run_id']}"
    peft_type = "full-finetuning" if row["method"] == "full" else str(row["method"]).upper()
    return {
        "experiment_name": f"{row['method']}/{label}",
        "peft_type": peft_type,
        "total_time": row["wall_seconds"],
        "train_time": row["train_seconds"],
        "test_accuracy": row["test_top1"],
        "train_loss": _train_loss(run),
        "accelerator_memory_max": row["peak_memory_bytes"] if on_gpu else None,
        "num_trainable_params": row["trainable_params"],
        "file_size": row["model_bytes"],
        "created_at": row["created_at"],
        "task_name": row["dataset"],
        "model_id": row["backbone"],
        "train_config": _json({"model_id": row["backbone"], "seed": row["seed"]} | run.train),
        "peft_config": _json({"peft_type": peft_type} | run.params),
        "torch_version": versions.get("torch"),
        "package_info": _json({f"{name}-version": text for name, text in versions.items()}),
        "system_info": _json({"device": row["device"], "hostname": row["hostname"]}),
    }


def _train_loss(run: Run) -> float | None:
    curve = dict(run.curves())
    return curve.get(run.row["best_epoch"], {}).get("train/loss")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
