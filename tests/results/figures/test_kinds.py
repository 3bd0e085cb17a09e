"""Each kind of figure on worked examples: what is drawn is what the table says."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from results import figures
from results.figures import FigureError
from results.figures.critical import cliques
from results.figures.pareto import front
from results.figures.profiles import profile
from results.stats import Interval
from results.table import leaderboard

_spec = importlib.util.spec_from_file_location(
    "figures_conftest", Path(__file__).with_name("conftest.py")
)
helpers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(helpers)


def around(*means, width=0.05):
    return [Interval(mean - width, mean + width) for mean in means]


# The front


def test_a_variant_whose_interval_lies_wholly_below_a_cheaper_one_is_off_the_front():
    means = [0.5, 0.8, 0.6]
    assert front([1, 2, 3], means, around(*means)) == [True, True, False]


def test_overlapping_intervals_keep_both_on_the_front():
    means = [0.5, 0.80, 0.75]
    assert front([1, 2, 3], means, around(*means)) == [True, True, True]
    assert front([1, 2, 3], means, around(*means, width=0.01)) == [True, True, False]


def test_intervals_that_touch_are_not_wholly_above():
    spans = [Interval(0.5, 0.6), Interval(0.4, 0.5)]
    assert front([1, 1], [0.55, 0.45], spans) == [True, True]


def test_equal_cost_is_at_least_as_cheap_and_dearer_is_not():
    means = [0.5, 0.8]
    assert front([1, 1], means, around(*means)) == [False, True]
    assert front([1, 2], means, around(*means)) == [True, True]


def test_lower_is_better_turns_the_front():
    means = [0.5, 0.8, 0.2]
    spans = around(*means)
    assert front([1, 2, 3], means, spans, higher_is_better=False) == [True, False, True]


def test_without_an_interval_the_means_decide_for_all():
    means = [0.80, 0.75]
    assert front([1, 2], means, [Interval(0.7, 0.9), None]) == [True, False]
    assert front([1, 2], [0.8, 0.8], [None, None]) == [True, True]


# Pareto


def test_points_and_bars_of_pareto_are_those_of_the_table(study):
    store = study()
    picture = figures.make(store, "pareto", "demo")
    rows = {row.label: row for row in leaderboard(store, "demo").rows}
    drawn = helpers.lines(picture, "point-")
    assert len(drawn) == len(rows) == 7
    for number, record in enumerate(picture.drawing.records):
        label, cost, mean, low, high, *_ = record
        assert drawn[f"point-{number}"] == ([cost], [mean])
        assert (mean, low, high) == (rows[label].mean, *rows[label].interval)
        assert cost == rows[label].trainable_params[1]


def test_memory_is_drawn_in_mebibytes(study):
    picture = figures.make(study(), "pareto", "demo", against="peak_memory_bytes")
    drawn = helpers.lines(picture, "point-")
    assert sorted(x for (x,), _ in drawn.values()) == [1, 2, 3, 4, 5, 6, 7]


def test_incomplete_variants_are_named_and_not_drawn(study):
    store = study(missing=[("linear", "mnist", 1)])
    picture = figures.make(store, "pareto", "demo")
    assert len(helpers.lines(picture, "point-")) == 6
    (record,) = [record for record in picture.drawing.records if record[0] == "linear"]
    assert record[2:] == (None, None, None, None, 14, 15)
    assert "not drawn, incomplete: linear (14 of 15 runs)" in picture.caption


def test_costs_that_do_not_compare_are_left_out_and_named(study):
    store = study(linear={"cost_comparable": False})
    seconds = figures.make(store, "pareto", "demo", against="epoch_seconds")
    assert len(helpers.lines(seconds, "point-")) == 6
    assert "runs left out, their costs do not compare: linear (15 runs)" in seconds.caption
    assert "not drawn, no comparable epoch_seconds: linear" in seconds.caption
    assert len(helpers.lines(figures.make(store, "pareto", "demo"), "point-")) == 7


def test_costs_of_several_devices_are_not_drawn_together(study):
    store = study(linear={"device": "H100"})
    with pytest.raises(FigureError, match=r"several kinds of device .H100 with 1 threads, cpu"):
        figures.make(store, "pareto", "demo", against="epoch_seconds")
    assert len(helpers.lines(figures.make(store, "pareto", "demo"), "point-")) == 7


def test_two_seeds_have_no_bars_and_the_front_claims_nothing(study):
    picture = figures.make(study(seeds=2), "pareto", "demo")
    assert all(record[3] is None for record in picture.drawing.records)
    assert "no interval: it needs 3 seeds on every data set" in picture.caption
    assert any("by the means alone, which claims nothing" in line for line in picture.caption)


def test_pareto_without_a_file_says_what_is_missing(study, peftgrid):
    study({"linear": 10}, datasets=("mnist",), missing=[("linear", "mnist", 0)])
    code, said, err = peftgrid("pareto", "demo")
    assert (code, err) == (0, "")
    assert "not drawn, incomplete: linear (2 of 3 runs)" in said


# Intervals


def test_the_forest_has_the_means_of_the_table_in_its_order(study):
    store = study(missing=[("lora[rank=4]", "mnist", 1)])
    picture = figures.make(store, "intervals", "demo")
    rows = leaderboard(store, "demo").rows
    drawn = helpers.lines(picture, "mean-")
    expected = {
        f"mean-{y}": ([row.mean], [y]) for y, row in enumerate(rows) if row.mean is not None
    }
    assert drawn == expected
    assert len(drawn) == 6
    _, texts = helpers.svg_of(picture)
    assert "incomplete: 14 of 15 runs" in texts


# Curves


def test_a_curve_is_the_mean_over_seeds_and_its_band_their_range(study):
    picture = figures.make(study({"lora": 10}, datasets=("mnist",)), "curves", "demo")
    drawn = helpers.lines(picture, "curve-")
    epochs, means = drawn["curve-0-val-top1"]
    assert epochs == [1, 2, 3]
    assert means == pytest.approx([0.31, 0.62, 0.93])
    assert drawn["curve-0-train-loss"][1] == pytest.approx([2, 1, 2 / 3])
    first = picture.drawing.records[0]
    assert first[:6] == ("lora", "mnist", "val/top1", 3, 3, 1)
    assert first[6:] == pytest.approx((0.31, 0.30, 0.32))


def test_another_metric_comes_from_the_map(study):
    store = study({"lora": 10}, datasets=("mnist",))
    picture = figures.make(store, "curves", "demo", metric="test/nll")
    assert helpers.lines(picture, "curve-")["curve-0-val-nll"][1] == pytest.approx([1, 0.5, 1 / 3])


def test_a_curve_that_misses_seeds_says_so(study):
    store = study({"lora": 10}, datasets=("mnist",), missing=[("lora", "mnist", 2)])
    picture = figures.make(store, "curves", "demo")
    _, texts = helpers.svg_of(picture)
    assert "1 (2/3)" in texts
    assert any("lora on mnist (2 of 3 seeds)" in line for line in picture.caption)


def test_epochs_of_attempts_that_failed_are_not_drawn(store, attempt, study):
    study({"lora": 10}, datasets=("mnist",), missing=[("lora", "mnist", 2)])
    failed = {"status": "failed", "failure_kind": "data", "seed": 2, "variant": "lora"}
    store.commit(attempt("r2", **failed), list(helpers.curve("r2", 9.0)))
    picture = figures.make(store, "curves", "demo")
    assert picture.drawing.records[0][3:5] == (2, 3)
    assert max(record[8] for record in picture.drawing.records) < 9


def test_one_data_set_can_be_asked_for(study):
    picture = figures.make(study(), "curves", "demo", datasets=("digits",))
    assert {record[1] for record in picture.drawing.records} == {"digits"}
    assert any(line.startswith("data sets left out: mnist, shapes") for line in picture.caption)


def test_too_many_panels_are_refused(study):
    many = {f"m{n}": n + 1 for n in range(41)}
    with pytest.raises(FigureError, match="30 rows of panels; allowed: at most 24, with --dataset"):
        figures.make(study(many, seeds=1), "curves", "demo")


# Ranks


def test_a_line_joins_variants_that_differ_in_their_rank_alone(study):
    store = study()
    picture = figures.make(store, "ranks", "demo")
    rows = {row.label: row for row in leaderboard(store, "demo").rows}
    means = [record for record in picture.drawing.records if record[1] == "mean over data sets"]
    assert [(record[0], record[2]) for record in means] == [
        *(("lora", rank) for rank in helpers.RANKS),
        *(("vera[alpha=2]", rank) for rank in helpers.RANKS),
    ]
    for record in means:
        assert record[3:6] == (rows[record[6]].mean, *rows[record[6]].interval)
    assert "not drawn, without a rank or without a run: linear" in picture.caption


def test_the_lines_of_one_data_set_are_the_means_over_its_seeds(study):
    picture = figures.make(study(), "ranks", "demo", datasets=("mnist",))
    drawn = helpers.lines(picture, "ranks-")
    assert drawn["ranks-0"] == ([1, 4, 8], pytest.approx([0.36, 0.41, 0.46]))


def test_a_rank_that_misses_runs_has_no_point(study):
    store = study(missing=[("lora[rank=4]", "mnist", 1)])
    picture = figures.make(store, "ranks", "demo", datasets=("mnist",))
    assert helpers.lines(picture, "ranks-")["ranks-0"][0] == [1, 8]
    assert "no point, incomplete: lora[rank=4] (mnist)" in picture.caption


def test_ranks_of_several_numbers_are_named(study):
    variants = {"lora[rank=1]": 1, "lora[rank=4]": 4, "tucker3[rank=3x8x8]": 9}
    picture = figures.make(study(variants), "ranks", "demo")
    assert "not drawn, its rank is not one number: tucker3[rank=3x8x8]" in picture.caption


# Profiles


def test_a_profile_is_the_share_of_runs_above_each_score():
    tau, fraction, band = profile([np.array([0.1, 0.2, 0.4]), np.array([0.2, 0.3, 0.5])])
    assert tau == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert fraction == pytest.approx([5 / 6, 3 / 6, 2 / 6, 1 / 6, 0])
    # Above 0.1 are two of the first three, drawn anew: none with probability 1/27, all with 8/27.
    assert band[0] == pytest.approx([0.5, 1.0])
    assert (band[:, 0] <= fraction).all()
    assert (band[:, 1] >= fraction).all()


def test_a_profile_of_lower_is_better_rises():
    tau, fraction, _ = profile([np.array([0.1, 0.2, 0.4])], higher_is_better=False)
    assert tau == pytest.approx([0.1, 0.2, 0.4])
    assert fraction == pytest.approx([1 / 3, 2 / 3, 1])


def test_data_sets_with_more_seeds_do_not_count_more():
    _, fraction, _ = profile([np.array([0.1, 0.3]), np.array([0.2, 0.3, 0.3, 0.3])])
    assert fraction == pytest.approx([(0.5 + 1) / 2, (0.5 + 0.75) / 2, 0])


def test_two_seeds_have_no_band():
    assert profile([np.array([0.1, 0.2])])[2] is None


def test_drawn_profiles_are_those_of_the_table(study):
    picture = figures.make(study(), "profiles", "demo")
    drawn = helpers.lines(picture, "profile-")
    names = list(dict.fromkeys(record[0] for record in picture.drawing.records))
    assert len(drawn) == len(names) == 7
    for number, name in enumerate(names):
        tau, fraction = drawn[f"profile-{number}"]
        told = [record[1:3] for record in picture.drawing.records if record[0] == name]
        assert list(zip(tau, fraction, strict=True))[1:-1] == told
        assert (fraction[0], fraction[-1]) == (1, 0)


# Critical differences


def test_cliques_are_the_largest_runs_within_the_distance():
    assert cliques([1.0, 1.5, 2.5, 3.0], 1.5) == [(0, 2), (1, 3)]
    assert cliques([1.0, 2.0, 3.0], 0.5) == []
    assert cliques([1.0, 1.2, 1.4], 9) == [(0, 2)]


def test_the_diagram_has_the_mean_ranks(study):
    picture = figures.make(study(), "critical", "demo")
    ranks = [record[1] for record in picture.drawing.records]
    assert ranks == [1, 2, 3, 4, 5, 6, 7]
    drawn = helpers.lines(picture, "rank-")
    places = np.array([drawn[f"rank-{at}"][0][0] for at in range(7)])
    # On the axis they lie as far apart as the ranks do.
    assert np.diff(places) == pytest.approx(np.full(6, (places[-1] - places[0]) / 6))
    x = helpers.lines(picture, "cd")["cd"][0]
    # Nemenyi's difference for 7 variants on 5 data sets: q(0.05, 7) = 2.949 (Demsar 2006, table 5).
    assert (x[1] - x[0]) / (places[1] - places[0]) == pytest.approx(2.949 * (56 / 30) ** 0.5, 1e-3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"variants": {"a": 1, "b": 2}}, "2 complete variants on 5 data sets given"),
        ({"datasets": ("mnist", "digits", "shapes", "letters")}, "on 4 data sets given"),
        ({"seeds": 2}, "no claim: 2 seeds, needed 3"),
    ],
)
def test_too_little_for_a_diagram_is_refused(given, says, study):
    with pytest.raises(FigureError, match=says):
        figures.make(study(**given), "critical", "demo")


def test_where_friedman_finds_nothing_one_bar_joins_all(store, fill):
    blocks = []
    for d, name in enumerate(helpers.DATASETS):
        for v in range(3):
            score = 0.5 + 0.1 * ((v + d) % 3)
            blocks.append((f"m{v}", name, [score] * 3, {}))
    fill(*blocks)
    picture = figures.make(store, "critical", "demo")
    assert len(helpers.lines(picture, "group-")) == 1
    assert any(line.startswith("no claim: p = ") for line in picture.caption)
    assert [record[2] for record in picture.drawing.records] == ["1", "1", "1"]
