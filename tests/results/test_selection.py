"""Who wins, and who may not."""

import pytest

from results.selection import CandidateScores, SelectionError, select


def candidate(name, scores, *, order=0, params=100):
    by_seed = dict(enumerate(scores))
    return CandidateScores(config_id=name, order=order, trainable_params=params, scores=by_seed)


def test_the_best_mean_wins_in_either_direction():
    candidates = [candidate("a", [0.5, 0.9]), candidate("b", [0.8, 0.8]), candidate("c", [0.1, 1])]
    up = select(candidates, higher_is_better=True)
    assert (up.winner, up.tied, up.incomplete) == ("b", 1, ())
    assert select(candidates, higher_is_better=False).winner == "c"


@pytest.mark.parametrize("missing", [[0.9], [0.9, None], [0.9, float("nan")]])
def test_who_misses_a_seed_cannot_win(missing):
    found = select([candidate("a", missing), candidate("b", [0.1, 0.1])], higher_is_better=True)
    assert (found.winner, found.incomplete) == ("b", ("a",))
    assert "1 miss seeds" in found.reason


def test_ties_go_to_fewer_parameters_then_to_axis_order():
    # 0.1 + 0.2 and 0.3 + 0.0 differ by rounding only.
    tied = [
        candidate("many", [0.1, 0.2], order=0, params=200),
        candidate("later", [0.3, 0.0], order=2, params=100),
        candidate("first", [0.15, 0.15], order=1, params=100),
        candidate("worse", [0.1, 0.1], order=0, params=1),
    ]
    found = select(tied, higher_is_better=True)
    assert (found.winner, found.tied) == ("first", 3)
    assert "3 tied" in found.reason


@pytest.mark.parametrize(
    "candidates", [[], [candidate("a", [])], [candidate("a", [1, None]), candidate("b", [None, 1])]]
)
def test_none_complete_is_an_error(candidates):
    with pytest.raises(SelectionError, match="allowed: at least one complete"):
        select(candidates, higher_is_better=True)
