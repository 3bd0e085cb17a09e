"""Weights & Biases runs, written offline: `wandb/offline-run-*`, one folder per run.

Nothing is sent: `wandb sync` uploads the folders when you say so, to the project with the suite's
name or to another (`--project`). Written by the package `wandb` itself. One W&B run per run:

* id: the run_id; name: variant, data set and seed; job type: the stage of the plan;
* config: `method`, `dataset`, `backbone`, `seed`, `params.*`, `train.*`, `data.*`;
* history: learning curves as `train/loss` over `epoch`;
* summary: the numbers of the scored epoch as `scored/test/top1`, the costs as
  `cost/train_seconds`, and `status`, `error`, device, versions and the rest;
* state: finished for a run that succeeded; any other counts as failed there.

Of the machine that exports nothing is kept but the versions of Python and wandb: no packages, git
state or usage, and the host is the run's. Yet W&B takes the time of the export for the run's own;
the summary has the true `started_at` and `ended_at`.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from results.exports import Progress
from results.exports._runs import Run, Source, safe

NEEDS = {"wandb": "wandb>=0.21"}
_QUIET = {
    "mode": "offline",
    "silent": True,
    "console": "off",
    "reinit": "create_new",
    "disable_code": True,
    "disable_git": True,
    "save_code": False,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


def export(source: Source, out: Path, progress: Progress) -> int:
    """Write one offline run per run."""
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    import wandb

    number = 0
    for run in progress(source.runs):
        _write(source.suite, run, out)
        number += 1
    # Its background process has the last files in hand; this waits until they are written.
    wandb.teardown()
    # They point to the last run that happened to be written.
    for name in ("latest-run", "debug.log", "debug-internal.log", "debug-core.log"):
        (out / "wandb" / name).unlink(missing_ok=True)
    return number


def how_to_open(out: Path) -> str:
    """What opens the result."""
    return f"wandb sync {shlex.quote(str(out / 'wandb'))}/offline-run-*"


def _write(suite: str, run: Run, out: Path) -> None:
    import wandb

    to = wandb.init(
        project=suite,
        id=safe(str(run.row["run_id"])),
        name=run.name,
        job_type=run.cell.stage,
        dir=out,
        config=run.settings(),
        settings=_settings(run),
    )
    for epoch, numbers in run.curves():
        to.log({"epoch": epoch, **numbers}, step=epoch)
    to.define_metric("*", step_metric="epoch")
    to.summary.update({**run.scores(), **run.costs(), **run.facts()})
    to.finish(exit_code=0 if run.succeeded else 1)


def _settings(run: Run) -> Any:
    import wandb

    wanted = _QUIET | {"host": run.row["hostname"] or "unknown"}
    # Those with x_ are wandb's own and may go.
    return wandb.Settings(**{k: v for k, v in wanted.items() if k in wandb.Settings.model_fields})
