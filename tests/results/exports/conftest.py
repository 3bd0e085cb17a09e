from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest

from results.record import Epoch

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
EVIL = "../../evil\\[rank=1]"
ERROR = '=HYPERLINK("http://x")\r\n-1, "quoted",\rlone \0 <script>alert(1)</script>'


def skip_unless_installed(to):
    """Skip the test where what the target writes with is not installed."""
    for module in import_module(f"results.exports.to_{to}").NEEDS:
        pytest.importorskip(module)


def curve(run_id, attempt, losses):
    for epoch, loss in enumerate(losses, 1):
        at = {"run_id": run_id, "attempt": attempt, "epoch": epoch}
        yield Epoch(**at, split="train", loss=loss, top1=0.1 * epoch, lr=1e-3, metrics={})
        yield Epoch(**at, split="val", loss=loss + 1, top1=0.3, metrics={"ece": 0.1 + 0.2})


@pytest.fixture
def study(store, attempt, cell):
    """A store with the suite `demo`: a success, a failure, one stopped, one not attempted."""
    plan = [
        cell("good", "lora[rank=8]", "mnist", 0, axes={"method.rank": "8"}),
        cell("bad", EVIL, "mnist", 1),
        cell("halted", "lora[rank=8]", "mnist", 2),
        cell("todo", "lora[rank=8]", "mnist", 3),
        cell(None, "lora[rank=8]", "mnist", 4, stage="final"),
    ]
    store.save_plan("demo", plan[0].suite_digest, "text", plan)
    store.save_plan(
        "other", plan[0].suite_digest, "text", [cell("o", "ia3", "x", 0, suite="other")]
    )
    times = {"created_at": START, "started_at": START, "ended_at": START + timedelta(minutes=2)}
    told = {"method": "lora", "variant": "lora[rank=8]", "spec": plan[0].spec, "seed": 0, **times}
    store.commit(
        attempt("good", status="failed", failure_kind="worker_lost", error="lost", **told),
        list(curve("good", 1, [9.0])),
    )
    store.commit(
        attempt(
            "good",
            2,
            **told,
            params={"rank": "8", "alpha": "0.30000000000000004", "targets": '["q", "v"]'},
            metrics={"test/top1": 0.1 + 0.2, "val/top1": 0.3, "test/nll": float("nan")},
            best_epoch=2,
            trainable_params=1234,
            train_seconds=12.75,
            wall_seconds=20.5,
            model_bytes=4096,
            peak_memory_bytes=2**20,
            device="cuda:H100",
            hostname="node1",
            adapted=False,
            versions={"torch": "2.14.0"},
        ),
        list(curve("good", 2, [2.0, 1.0])),
    )
    broken = {**told, "variant": EVIL, "method": "../x", "seed": 1, "params": {"a/../b": "=1+1"}}
    store.commit(
        attempt(
            "bad",
            status="failed",
            failure_kind="non_finite",
            error=ERROR,
            metrics={"test/top1": 0.99},
            **broken,
        ),
        list(curve("bad", 1, [float("nan")])),
    )
    store.commit(attempt("halted", status="stopped", **told | {"seed": 2, "started_at": None}))
    store.commit(attempt("o", **told))
    return store
