"""What a trial measured, as columns."""

import pytest

from adapters.trial import TrialResult
from orchestrator import rows
from results.record import Attempt


@pytest.mark.parametrize(("params", "subspaces"), [(None, None), (700, 7)])
def test_what_still_trained_at_the_end_is_recorded(params, subspaces):
    result = TrialResult(
        epochs=(),
        best_epoch=1,
        scores={},
        adapter_params=900,
        head_params=100,
        total_params=5000,
        active_params=params,
        active_subspaces=subspaces,
        train_seconds=1.0,
        epoch_seconds=None,
        eval_seconds=1.0,
        images_per_second=1.0,
        peak_memory_bytes=None,
        data_digest="",
    )
    attempt = Attempt(run_id="r", attempt=1, status="succeeded", **rows.of_result(result))
    row = attempt.to_row()
    assert (row["active_params"], row["active_subspaces"]) == (params, subspaces)
    assert row["trainable_params"] == 1000, "the count at the start"


def test_the_digest_of_a_row_is_that_of_the_images_that_were_read(make_suite):
    spec = next(iter(make_suite("rows").cells())).spec
    declared = spec.science["dataset"]["digest"]
    started = rows.attempt(spec, number=1, started_at=None, status="stopped")
    ended = rows.attempt(spec, number=1, started_at=None, status="succeeded", data_digest="read")
    assert (started.data_digest, ended.data_digest) == (declared, "read")
