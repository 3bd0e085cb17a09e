"""How a run is handed out for the first time."""

import pytest

from orchestrator.driver import work


@pytest.mark.parametrize(("most", "expected"), [(None, None), (8, 8), (24, None), (100, None)])
def test_a_batch_is_accumulated_only_where_it_is_larger_than_the_micro_batch(
    make_suite, most, expected
):
    more = "" if most is None else f"execution: {{micro_batch: {most}}}\n"
    suite = make_suite("parts", more=more)  # of batches of 24 images
    for cell in suite.cells():
        given = work(suite, cell.spec, restart=False)
        assert (given.micro_batch, given.restart) == (expected, False)


def test_the_micro_batch_is_no_part_of_a_runs_identity(make_suite):
    ids = [
        [cell.spec.run_id for cell in make_suite("parts", more=more).cells()]
        for more in ("", "execution: {micro_batch: 4}\n")
    ]
    assert ids[0] == ids[1]
