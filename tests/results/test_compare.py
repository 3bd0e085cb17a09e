"""Comparisons on a store small enough to check by hand."""

import json

import pytest

from results import stats
from results.compare import TableError, compare
from results.table import leaderboard


def blocks(variant, offsets, datasets=6):
    """A variant on data sets with three seeds each, `offsets` above what the data set gives."""
    return [
        (variant, f"data{n}", [0.3 + n / 20 + offset + n / 1000 for offset in offsets], {})
        for n in range(datasets)
    ]


def test_two_variants_by_hand(store, worked):
    found = compare(store, ["lora[rank=8]", "bitfit"])
    (pair,) = found.pairs
    assert (pair.a, pair.b, pair.pairs, pair.datasets, pair.missing) == (
        *("lora[rank=8]", "bitfit", 9, 3),
        (),
    )
    assert pair.difference == pytest.approx(0.125)
    assert pair.effect_size == pytest.approx(0.1 / (0.30 / 8) ** 0.5)
    assert (pair.better_on, pair.worse_on) == (2, 1)
    assert (pair.statistic, pair.p) == (5.5, pytest.approx(2 * 13 / 128))
    assert pair.p_holm == pair.p
    assert pair.improvement == pytest.approx((1 + 1 / 6 + 17 / 18) / 3)
    assert pair.interval.low < pair.difference < pair.interval.high
    assert pair.claim == "no claim: p = 0.203, needed below 0.05"
    assert found.ranking is None


def test_the_difference_is_that_of_the_leaderboard(store, worked):
    rows = {row.variant: row.mean for row in leaderboard(store).rows}
    (pair,) = compare(store, ["bitfit", "lora"]).pairs
    assert pair.difference == pytest.approx(rows["bitfit"] - rows["lora[rank=8]"])


def test_turning_the_variants_turns_the_result(store, worked):
    (there,) = compare(store, ["lora", "bitfit"]).pairs
    (back,) = compare(store, ["bitfit", "lora"]).pairs
    assert back.difference == pytest.approx(-there.difference)
    assert back.interval == pytest.approx((-there.interval.high, -there.interval.low))
    assert back.effect_size == pytest.approx(-there.effect_size)
    assert back.improvement == pytest.approx(1 - there.improvement)
    assert (back.better_on, back.p) == (there.worse_on, pytest.approx(there.p))


def test_a_clear_difference_is_claimed_in_words(store, fill):
    fill(*blocks("lora", [0.10, 0.11, 0.12]), *blocks("linear", [0.0, 0.0, 0.01]))
    (pair,) = compare(store, ["linear", "lora"]).pairs
    assert pair.difference == pytest.approx(-(0.10 + 0.11 + 0.11) / 3)
    assert pair.claim.startswith(
        "lora is better than linear in test/top1 on 6 data sets, by 0.1067 ["
    )
    assert pair.p < 0.05


def test_the_claim_turns_with_the_metric(store, fill):
    fill(*blocks("lora", [0.10, 0.11, 0.12]), *blocks("linear", [0.0, 0.0, 0.01]))
    (pair,) = compare(store, ["linear", "lora"], metric="test/nll").pairs
    assert pair.difference > 0
    assert pair.claim.startswith("lora is better than linear in test/nll")
    assert (pair.better_on, pair.improvement) == (0, 0)


def test_below_three_seeds_nothing_is_claimed(store, fill):
    fill(("lora", "mnist", [0.8, 0.9], {}), ("linear", "mnist", [0.1, 0.2], {}))
    (pair,) = compare(store, ["lora", "linear"]).pairs
    assert pair.difference == pytest.approx(0.7)
    assert (pair.interval, pair.p, pair.p_holm, pair.improvement_interval) == (None,) * 4
    assert pair.claim == "no claim: 2 seeds, needed 3"


def test_few_pairs_cannot_be_significant_and_that_is_said(store, fill):
    fill(("lora", "mnist", [0.8, 0.9, 0.9], {}), ("linear", "mnist", [0.1, 0.2, 0.1], {}))
    (pair,) = compare(store, ["lora", "linear"]).pairs
    assert pair.claim == (
        "no claim: p = 0.25, needed below 0.05; 3 pairs cannot give less than 0.25"
    )


def test_missing_pairs_are_listed(store, fill):
    fill(
        ("lora", "mnist", [0.8, 0.9, None, 0.7], {}),
        ("linear", "mnist", [0.1, 0.2, 0.3, 0.1], {}),
        ("linear", "digits", [None], {}),
    )
    found = compare(store, ["lora", "linear"])
    (pair,) = found.pairs
    assert pair.missing == (
        "mnist, seed 2: lora has no score",
        "digits, seed 0: lora is not planned and linear has no score",
    )
    assert (pair.pairs, pair.datasets) == (3, 1)
    assert pair.difference == pytest.approx((0.7 + 0.7 + 0.6) / 3)
    text = found.to_text()
    assert "missing pair (lora - linear): mnist, seed 2: lora has no score" in text
    assert " 3/5 " in text


def test_missing_pairs_stand_in_the_claim(store, fill):
    rows = blocks("lora", [0.10, 0.11, 0.12, 0.1])
    rows[0][2][0] = None
    fill(*rows, *blocks("linear", [0.0, 0.0, 0.01, 0.0]))
    (pair,) = compare(store, ["lora", "linear"]).pairs
    assert pair.claim.endswith("; 1 of 24 pairs is missing")


def test_no_pair_at_all(store, fill):
    fill(("lora", "mnist", [0.8], {}), ("linear", "digits", [0.1], {}))
    (pair,) = compare(store, ["lora", "linear"]).pairs
    assert (pair.pairs, pair.difference, len(pair.missing)) == (0, None, 2)
    assert pair.claim == "no claim: no pair of runs"


def test_a_final_whose_seed_is_not_known_yet_is_missing(store, fill, cell, attempt):
    waiting = [
        cell(None, variant, "mnist", None, config_id=None, spec=None, stage="final")
        for variant in ("lora", "linear")
    ]
    store.save_plan("demo", "0123456789abcdef", "text", waiting)
    (pair,) = compare(store, ["lora", "linear"]).pairs
    assert pair.missing == (
        "mnist, a seed not known yet: lora has no score and linear has no score",
    )


def test_several_variants_are_corrected_and_ranked(store, fill):
    fill(
        *blocks("best", [0.20, 0.21, 0.22]),
        *blocks("good", [0.10, 0.12, 0.11]),
        *blocks("last", [0.0, 0.01, 0.02]),
    )
    found = compare(store, ["last", "good", "best"])
    assert [(pair.a, pair.b) for pair in found.pairs] == [
        ("last", "good"),
        ("last", "best"),
        ("good", "best"),
    ]
    assert [pair.p_holm for pair in found.pairs] == stats.holm([pair.p for pair in found.pairs])
    assert min(pair.p_holm for pair in found.pairs) > min(pair.p for pair in found.pairs)
    ranking = found.ranking
    assert (ranking.variants, ranking.mean_ranks) == (("best", "good", "last"), (1, 2, 3))
    # All six data sets rank alike: chi2 = 12 * 6 / 12 * (14 - 12).
    assert (ranking.chi2, ranking.f) == (pytest.approx(12), None)
    assert ranking.p == pytest.approx(6.0**-5)
    assert ranking.critical_difference == pytest.approx(2.343 * (12 / 36) ** 0.5, abs=1e-3)
    assert ranking.claim == "the ranks differ (p = 0.000129): best before last"


def test_few_data_sets_are_ranked_but_not_tested(store, fill):
    fill(
        *blocks("best", [0.20, 0.21, 0.22], datasets=2),
        *blocks("good", [0.10, 0.12, 0.11], datasets=2),
        ("last", "data0", [0.1, 0.1, None], {}),
        ("last", "data1", [0.1, 0.1, 0.1], {}),
    )
    ranking = compare(store, ["best", "good", "last"]).ranking
    assert ranking.mean_ranks == (1, 2, 3)
    assert (ranking.datasets, ranking.left_out) == (("data1",), ("data0",))
    assert ranking.p is None
    assert ranking.claim == "no claim: 1 data set, needed 5"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["lora", "bitfit"], r"'lora' given, .*several.*; allowed: lora\[rank=2\], lora\[rank=8\]"),
        (["vera", "bitfit"], r"'vera' given, .*no name.*; allowed: bitfit, lora\[rank=2\], lora"),
        (["bitfit", "bitfit"], "allowed: at least two different ones"),
        (["bitfit"], "allowed: at least two different ones"),
    ],
)
def test_unclear_variants_are_refused_with_what_there_is(store, fill, names, says):
    fill(*((name, "mnist", [0.5], {}) for name in ("bitfit", "lora[rank=2]", "lora[rank=8]")))
    with pytest.raises(TableError, match=says):
        compare(store, names)


def test_a_name_that_begins_another_is_itself(store, fill):
    fill(("lora", "mnist", [0.5], {}), ("lora+ia3", "mnist", [0.6], {}))
    (pair,) = compare(store, ["lora", "lora+"]).pairs
    assert (pair.a, pair.b) == ("lora", "lora+ia3")


@pytest.mark.parametrize("form", ["text", "markdown", "latex"])
def test_every_form_has_the_claim_the_numbers_and_the_source(store, worked, form):
    found = compare(store, ["lora", "bitfit"], provenance={"store": "here", "peftgrid": "9.9"})
    made = getattr(found, f"to_{form}")()
    for said in ("no claim: p = 0.203", "+0.1250", "0.704", "suite demo", "here", "9.9"):
        assert said in made


def test_text_fits_into_120_columns(store, worked):
    assert max(map(len, compare(store, ["lora", "bitfit"]).to_text().splitlines())) <= 120


def test_json_holds_every_number(store, worked):
    found = compare(store, ["lora", "bitfit"], provenance={"store": "here"})
    plain = json.loads(found.to_json())
    assert plain["pairs"][0]["interval"] == list(found.pairs[0].interval)
    assert (plain["ranking"], plain["provenance"]) == (None, {"store": "here"})
