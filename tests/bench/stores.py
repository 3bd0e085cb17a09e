"""Stores for benchmarks: rows as real suites leave them, made in columns and not run by run.

A few records are made through `results.record`; the rest repeats them with other names, seeds and
numbers, so that every column holds something of the usual size.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from results import generations, schema
from results.files import parquet_bytes
from results.record import Attempt, PlanRow, to_table
from results.store import Store

METHODS, DATASETS, RATES = 20, 25, 4
CONFIGS = METHODS * DATASETS * RATES
SPLITS = ("train", "val")
METRICS = ("loss", "top1", "top5", "nll", "ece", "macro_f1")
_SCORES = tuple(f"{split}/{name}" for split in (*SPLITS, "test") for name in METRICS)
_DIGEST = hashlib.sha256(b"weights").hexdigest()
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def compacted(folder: Path, runs: int, epochs: int, seed: int = 0) -> Store:
    """A store of `runs` runs, one in twenty tried twice, in one generation and one suite."""
    draw = np.random.default_rng(seed)
    store = Store.open(folder, create=True)
    attempts = _attempts(runs, draw, again=0.05)
    generations.write(store.path, 1, attempts, _epochs(attempts, epochs, draw))
    _plan(store, attempts)
    return store


def add_files(store: Store, runs: int, epochs: int, seed: int) -> None:
    """Runs in files of their own, as `commit` leaves them. Nothing is flushed to the disk."""
    draw = np.random.default_rng(seed)
    attempts = _attempts(runs, draw, again=0.0)
    curves = _epochs(attempts, epochs, draw)
    each = epochs * len(SPLITS)
    names = attempts.column("run_id").to_pylist()
    at_file, at_digest = (attempts.schema.names.index(n) for n in ("epochs_file", "epochs_digest"))
    for row, run_id in enumerate(names):
        curve = parquet_bytes(curves.slice(row * each, each), "epochs")
        file = f"epochs/{run_id}.1.0123abcd.parquet"
        (store.path / file).write_bytes(curve)
        one = attempts.slice(row, 1)
        one = one.set_column(at_file, "epochs_file", pa.array([file]))
        digest = hashlib.sha256(curve).hexdigest()
        one = one.set_column(at_digest, "epochs_digest", pa.array([digest]))
        (store.path / "attempts" / f"{run_id}.1.parquet").write_bytes(
            parquet_bytes(one, "attempts")
        )
        claim = {"run_id": run_id, "attempt": 1, "job": "job-1", "hostname": "host"}
        (store.path / "claims" / f"{run_id}.1.json").write_text(json.dumps(claim))


def _attempts(runs: int, draw: np.random.Generator, again: float) -> pa.Table:
    """Attempts in the order of the store; a part `again` of the runs failed once before."""
    names = np.array(sorted(_name("run", draw.integers(1 << 60), n) for n in range(runs)))
    place = draw.permutation(runs)
    tries = 1 + (draw.random(runs) < again)
    run = np.repeat(np.arange(runs), tries)
    number = np.where(np.diff(run, prepend=-1) > 0, 1, 2)
    failed = (np.diff(run, append=runs) == 0) | (draw.random(len(run)) < 0.01)
    config, seed = place[run] % CONFIGS, place[run] // CONFIGS
    rows = _configs().take(pa.array(config))
    scores = draw.random((len(run), len(_SCORES)))
    seconds = draw.gamma(4.0, 10.0, len(run))
    begun = np.datetime64(_BEGAN.replace(tzinfo=None), "us") + (seconds.cumsum() * 1e6).astype(
        "timedelta64[us]"
    )
    digits = pa.array(seed).cast(pa.string())
    opening = pc.utf8_slice_codeunits(rows.column("spec").combine_chunks(), 0, -2)
    gone = pa.array(failed)
    values: dict[str, Any] = {
        "run_id": pa.array(names[run]),
        "attempt": pa.array(number),
        "seed": pa.array(seed),
        "spec": pc.binary_join_element_wise(opening, digits, "}", ""),
        "status": pc.if_else(gone, "failed", "succeeded"),
        "failure_kind": pc.if_else(gone, "worker_lost", None),
        "error": pc.if_else(gone, "the worker's process was killed (signal 9)", None),
        "metrics": _map(_SCORES, scores),
        "epoch_seconds": pa.array(seconds / 20),
        "train_seconds": pa.array(seconds),
        "wall_seconds": pa.array(seconds * 1.1),
        "images_per_second": pa.array(1e4 / seconds),
        "peak_memory_bytes": pa.array((seconds * 1e7).astype(np.int64)),
        "created_at": pa.array(begun),
        "started_at": pa.array(begun + np.timedelta64(1, "s")),
        "ended_at": pa.array(begun + np.timedelta64(60, "s")),
    }
    for name in ("train_top1", "val_top1", "test_top1", "test_nll", "test_ece"):
        values[name] = pa.array(scores[:, _SCORES.index(name.replace("_", "/", 1))])
    return _with(rows, values)


def _epochs(attempts: pa.Table, epochs: int, draw: np.random.Generator) -> pa.Table:
    """The curve of every attempt: an epoch's rows are one per split."""
    row = np.repeat(np.arange(len(attempts)), epochs * len(SPLITS))
    values = draw.random((len(row), 6))
    split = np.tile(np.arange(len(SPLITS)), len(attempts) * epochs)
    keys = attempts.select(["run_id", "attempt"]).combine_chunks().take(pa.array(row))
    training = pa.array(split == 0)
    held: dict[str, Any] = {
        "run_id": keys.column("run_id"),
        "attempt": keys.column("attempt"),
        "epoch": pa.array(np.tile(np.repeat(np.arange(1, epochs + 1), len(SPLITS)), len(attempts))),
        "split": pa.array(SPLITS).take(pa.array(split)),
        "loss": pa.array(values[:, 0]),
        "top1": pa.array(values[:, 1]),
        "lr": pc.if_else(training, pa.array(values[:, 2].round(3)), None),
        "grad_norm": pc.if_else(training, pa.array(values[:, 3]), None),
        "seconds": pa.array(values[:, 4]),
        "images_per_second": pa.array(values[:, 5]),
        "metrics": _map(METRICS[1:3], values[:, 1:3]),
    }
    return pa.table(held, schema=schema.arrow_schema(schema.EPOCHS))


def _plan(store: Store, attempts: pa.Table) -> None:
    """One suite that asks for every run."""
    first = attempts.filter(pc.equal(attempts.column("attempt"), 1)).combine_chunks()
    cell = PlanRow(suite="large", suite_digest="0" * 16, position=0, stage="single")
    rows = to_table([cell.to_row(plan=1, overrides=())], schema.PLANS)
    rows = rows.take(pa.array(np.zeros(len(first), dtype=np.int64)))
    same = set(rows.column_names) & set(first.column_names)
    values: dict[str, Any] = {name: first.column(name) for name in same}
    values["position"] = pa.array(np.arange(len(first)))
    plan = _with(rows, values)
    (store.path / "plans" / "large.00000000.1.parquet").write_bytes(
        parquet_bytes(plan, "plans", packed=True)
    )


def _configs() -> pa.Table:
    """One attempt of each configuration; the spec ends with an open seed."""
    rows = []
    for n in range(CONFIGS):
        method, dataset, rate = (
            n % METHODS,
            n // METHODS % DATASETS,
            n // (METHODS * DATASETS),
        )
        lr, variant = 10.0**-rate, f"method{method}[alpha=16,rank={1 << method % 6}]"
        record = Attempt(
            run_id="run",
            attempt=1,
            status="succeeded",
            config_id=_name("config", 0, n),
            variant=variant,
            variant_id=_name("variant", 0, method),
            spec=json.dumps(_science(method, dataset, lr)),
            semantics={"backbone": 1, "dataset": 1, "method": 1, "training": 1},
            backbone="vit_small_patch16_224.augreg_in21k",
            weights_digest=_DIGEST,
            method=f"method{method}",
            rank=str(1 << method % 6),
            params={"rank": str(1 << method % 6), "alpha": "16", "targets": '["q", "v"]'},
            dataset=f"dataset{dataset}",
            dataset_group=("natural", "specialised", "structured")[dataset % 3],
            data_digest=hashlib.sha256(str(dataset).encode()).hexdigest(),
            select_epoch="best_val",
            best_epoch=n % 20 + 1,
            adapted=False,
            trainable_params=10_000 * (method + 1),
            adapter_params=9_000 * (method + 1),
            head_params=1_000 * (method + 1),
            total_params=21_700_000,
            eval_seconds=1.5,
            queue_seconds=0.5,
            cost_comparable=True,
            device="AMD EPYC 9554 64-Core Processor",
            device_share=1.0,
            threads=8,
            cpu_capability="AVX512",
            precision="bf16",
            hostname="node-17.cluster.example",
            versions={"python": "3.12.4", "torch": "2.8.0", "timm": "1.0.19", "ray": "2.50.0"},
            git_commit="0123456789abcdef0123456789abcdef01234567",
            git_dirty=False,
            created_at=_BEGAN + timedelta(seconds=n),
            job=f"job-{n % 50}",
            node=_name("node", 0, n % 8),
            log_path=f"logs/job-{n % 50}.log",
        )
        rows.append(record.to_row())
    return to_table(rows, schema.ATTEMPTS).combine_chunks()


def _science(method: int, dataset: int, lr: float) -> dict[str, Any]:
    return {
        "backbone": {"name": "vit_small_patch16_224.augreg_in21k", "weights_digest": _DIGEST},
        "dataset": {
            "name": f"dataset{dataset}",
            "digest": hashlib.sha256(str(dataset).encode()).hexdigest(),
            "config": {"train": 800, "val": 200, "test": 1000, "split_seed": 0},
        },
        "preprocessing": {"size": 224, "mean": [0.5] * 3, "std": [0.5] * 3, "resize": "squash"},
        "method": {"name": f"method{method}", "params": {"rank": 1 << method % 6, "alpha": 16}},
        "train": {"epochs": 20, "batch_size": 64, "optimizer": "adamw", "lr": lr},
        "semantics": {"backbone": 1, "dataset": 1, "method": 1, "training": 1},
        "seed": 0,
    }


def _with(rows: pa.Table, values: dict[str, Any]) -> pa.Table:
    """`rows` with the columns that are given in place of its own."""
    arrays = {name: values.get(name, rows.column(name)) for name in rows.column_names}
    return pa.table(
        {
            name: array.cast(rows.schema.field(name).type) if name in values else array
            for name, array in arrays.items()
        },
        schema=rows.schema,
    ).combine_chunks()


def _map(keys: tuple[str, ...], values: np.ndarray) -> pa.MapArray:
    rows, width = values.shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
    names = pa.array(keys).take(pa.array(np.tile(np.arange(width), rows)))
    return pa.MapArray.from_arrays(offsets, names, pa.array(values.ravel()))


def _name(kind: str, salt: int, number: int) -> str:
    return hashlib.sha256(f"{kind}{salt}{number}".encode()).hexdigest()[:16]
