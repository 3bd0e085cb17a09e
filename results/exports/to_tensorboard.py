"""TensorBoard event files, one folder per run: curves, hyper-parameters, how it ended.

* SCALARS: learning curves as `train/loss`, `val/top1` over the epoch as step; the numbers of the
  scored epoch as `scored/test/top1`, and the costs as `cost/train_seconds`, both at step 0;
* HPARAMS: a session per run with its settings (`params.rank`, `train.lr`), start, end, and the
  `scored/` metrics. Its status is success or failure; unknown for a run stopped or pruned;
* TEXT: `facts`: status, error, device, versions and the rest.

The store keeps no time per epoch: every event carries the run's end as its wall time, so choose
STEP as the horizontal axis. TensorBoard keeps numbers in 32 bits.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from results.exports import Progress
from results.exports._runs import Run, Source, seconds

# Not tensorboardX, which comes with Ray: it loads torch as it is imported.
NEEDS = {"tensorboard": "tensorboard>=2.18"}
_STATUS = {"succeeded": "STATUS_SUCCESS", "failed": "STATUS_FAILURE"}


def export(source: Source, out: Path, progress: Progress) -> int:
    """Write a folder of events per run, and the experiment's hyper-parameters beside them."""
    from tensorboard.plugins.hparams import summary_v2

    settings = sorted({name for run in source.runs for name in run.settings()})
    scores = sorted({name for run in source.runs for name in run.scores()})
    ends = [seconds(run.row["ended_at"]) or 0.0 for run in source.runs]
    experiment = summary_v2.hparams_config_pb(
        hparams=[summary_v2.HParam(name) for name in settings],
        metrics=[summary_v2.Metric(name) for name in scores],
        time_created_secs=max(ends),
    )
    _write(out, max(ends), [(0, experiment)])
    number = 0
    for run, end in zip(progress(source.runs), ends, strict=True):
        folder = out / run.folder
        folder.mkdir()
        _write(folder, end, _summaries(run, end))
        number += 1
    return number


def how_to_open(out: Path) -> str:
    """What opens the result."""
    return f"tensorboard --logdir {shlex.quote(str(out))}"


def _summaries(run: Run, end: float) -> Iterable[tuple[int, Any]]:
    """What a run's file holds: steps and summaries."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import summary_v2
    from tensorboard.plugins.text.summary_v2 import text_pb

    start = seconds(run.row["started_at"]) or end
    trial = str(run.row["run_id"])
    yield 0, summary_v2.hparams_pb(run.settings(), trial_id=trial, start_time_secs=start)
    # Indented by four, it is code: shown as it is, whatever an error message holds.
    facts = "".join(f"{name}: {value}\n" for name, value in run.facts().items())
    yield 0, text_pb("facts", "".join(f"    {line}\n" for line in facts.splitlines()))
    for step, numbers in [*run.curves(), (0, {**run.scores(), **run.costs()})]:
        values = [Summary.Value(tag=name, simple_value=n) for name, n in numbers.items()]
        yield step, Summary(value=values)
    yield 0, _session_end(run.row["status"], end)


def _session_end(status: str, end: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    ended = plugin_data_pb2.SessionEndInfo(
        status=api_pb2.Status.Value(_STATUS.get(status, "STATUS_UNKNOWN")), end_time_secs=end
    )
    about = metadata.create_summary_metadata(
        plugin_data_pb2.HParamsPluginData(session_end_info=ended)
    )
    value = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR
    )
    return Summary(value=[value])


def _write(folder: Path, time: float, summaries: Iterable[tuple[int, Any]]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    with (folder / f"events.out.tfevents.{int(time):010d}.peftgrid").open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=time, file_version="brain.Event:2").SerializeToString())
        for step, summary in summaries:
            writer.write(Event(wall_time=time, step=step, summary=summary).SerializeToString())
