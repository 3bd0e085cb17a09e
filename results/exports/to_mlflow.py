"""An MLflow tracking database, `mlflow.db` (SQLite): one experiment with the suite's name.

SQLite because MLflow 3 refuses its older `mlruns` folders unless told otherwise. Written through
MLflow's own client; nothing is sent anywhere, its telemetry is off. One MLflow run per run:

* name: variant, data set and seed; start and end are the run's own, 1970 where the store has none;
* status: FINISHED, FAILED, or KILLED for a run that was stopped or pruned;
* parameters: `method`, `dataset`, `backbone`, `seed`, `params.*`, `train.*`, `data.*`;
* metrics: learning curves as `train/loss` with the epoch as step; the numbers of the scored epoch
  as `scored/test/top1`, and the costs as `cost/train_seconds`, both at step 0;
* tags: `peftgrid.status`, `peftgrid.error`, `peftgrid.run_id`, device, versions and the rest.

MLflow's limits hold: characters that its names may not have become `_`, and text is cut at 6,000
characters for a parameter and 8,000 for a tag.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.exports import Progress
from results.exports._runs import Run, Source, seconds

NEEDS = {"mlflow": "mlflow-skinny>=3.10", "sqlalchemy": "sqlalchemy>=2", "alembic": "alembic>=1.13"}
_STATUS = {"succeeded": "FINISHED", "failed": "FAILED"}
_PARAM, _TAG, _NAME = 6000, 8000, 250
"""Characters that MLflow takes of a parameter's value, of a tag's, and of any name."""
_BATCH = {"metrics": 1000, "params": 100}
"""Of each kind, how many MLflow takes at a time."""


def export(source: Source, out: Path, progress: Progress) -> int:
    """Write `mlflow.db`."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient

    # They tell of the tables that they make, on standard error.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=_uri(out))
    experiment = client.create_experiment(
        source.suite, artifact_location=(out / "artifacts").as_uri()
    )
    number = 0
    for run in progress(source.runs):
        _write(client, experiment, run)
        number += 1
    return number


def how_to_open(out: Path) -> str:
    """What opens the result."""
    return f"mlflow ui --backend-store-uri {shlex.quote(_uri(out))}"


def _uri(out: Path) -> str:
    return f"sqlite:///{out / 'mlflow.db'}"


def _write(client: Any, experiment: str, run: Run) -> None:
    from mlflow.entities import Param

    end = _millis(run, "ended_at")
    start = _millis(run, "started_at") or _millis(run, "created_at") or end
    # By clean name: two names that MLflow cannot tell apart would be an error there.
    params = {_name(name): str(value)[:_PARAM] for name, value in run.settings().items()}
    tags = {_name(f"peftgrid.{name}"): str(value)[:_TAG] for name, value in run.facts().items()}
    made = client.create_run(experiment, start_time=start, tags=tags, run_name=run.name[:_NAME])
    batches: dict[str, Sequence[Any]] = {
        "params": [Param(name, text) for name, text in params.items()],
        "metrics": _metrics(run, end),
    }
    for kind, items in batches.items():
        for at in range(0, len(items), _BATCH[kind]):
            client.log_batch(made.info.run_id, **{kind: items[at : at + _BATCH[kind]]})
    status = _STATUS.get(run.row["status"], "KILLED")
    client.set_terminated(made.info.run_id, status=status, end_time=end)


def _metrics(run: Run, time: int) -> list[Any]:
    from mlflow.entities import Metric

    # The store keeps no time per epoch, so all carry the run's end and the step tells them apart.
    once = {**run.scores(), **run.costs()}
    return [
        Metric(_name(name), float(value), time, step)
        for step, numbers in [*run.curves(), (0, once)]
        for name, value in numbers.items()
    ]


def _millis(run: Run, column: str) -> int:
    return round(1000 * (seconds(run.row[column]) or 0))


def _name(text: str) -> str:
    """A name as MLflow takes it, which reads names as paths too."""
    clean = re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)
    parts = [part.lstrip(".") or "_" for part in clean.split("/")]
    return "/".join(parts)[:_NAME]
