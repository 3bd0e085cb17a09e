"""Leaderboards on a store small enough to check by hand."""

import csv
import io
import json
import time

import numpy as np
import pyarrow as pa
import pytest

from results import schema, scores, stats, table
from results.table import RESAMPLES, TableError, leaderboard

DIGEST = "0123456789abcdef"


def test_means_spreads_costs_and_order(store, fill):
    cost = {"device": "cpu", "threads": 1, "total_params": 1000}
    fill(
        ("linear", "mnist", [0.5, 0.6, 0.7], {"epoch_seconds": 1.0, "peak_memory_bytes": 2**20}),
        ("linear", "digits", [0.3, 0.3, 0.3], {"epoch_seconds": 3.0, "peak_memory_bytes": 2**22}),
        ("lora[rank=8]", "mnist", [0.8, 0.9, 1.0], {"trainable_params": 50, "adapter_params": 40}),
        ("lora[rank=8]", "digits", [0.7, 0.8, 0.9], {"trainable_params": 60, "adapter_params": 40}),
        **cost,
    )
    board = leaderboard(store, "demo")
    assert board.datasets == ("mnist", "digits")
    lora, linear = board.rows
    assert (lora.variant, linear.variant) == ("lora[rank=8]", "linear")
    assert linear.cells["mnist"].mean == pytest.approx(0.6)
    assert linear.cells["mnist"].std == pytest.approx(0.1)
    assert linear.cells["digits"].std == pytest.approx(0)
    assert linear.mean == pytest.approx(0.45)
    assert lora.mean == pytest.approx(0.85)
    assert lora.trainable_params == (50, 60)
    assert lora.adapter_params == (40, 40)
    assert lora.trainable_percent == (5.0, 6.0)
    assert linear.epoch_seconds == 2.0
    assert linear.peak_memory_bytes == 2**22
    assert lora.epoch_seconds is None
    assert all(row.settings == () for row in board.rows)


def test_lower_is_better_turns_the_order(store, fill):
    fill(("linear", "mnist", [0.5], {}), ("lora", "mnist", [0.9], {}))
    assert [row.variant for row in leaderboard(store).rows] == ["lora", "linear"]
    board = leaderboard(store, metric="test/nll")
    assert [(row.variant, row.mean) for row in board.rows] == [
        ("lora", pytest.approx(0.1)),
        ("linear", pytest.approx(0.5)),
    ]
    with pytest.raises(ValueError, match="'auc' given"):
        leaderboard(store, metric="test/auc")


def test_incomplete_cells_are_marked_and_spoil_the_mean(store, fill, attempt):
    rows = fill(
        ("linear", "mnist", [0.5, 0.5], {}),
        ("linear", "digits", [0.4, 0.4], {}),
        ("lora", "mnist", [0.9, None], {}),
        ("lora", "digits", [0.9, 0.9], {}),
        ("vera", "mnist", [None, None], {}),
    )
    failed = {"status": "failed", "failure_kind": "data", "metrics": {"test/top1": 1.0}}
    store.commit(attempt(rows[5].run_id, dataset="mnist", **failed))
    linear, lora, vera = leaderboard(store).rows
    assert linear.mean == pytest.approx(0.45)
    cell = lora.cells["mnist"]
    assert (cell.mean, cell.std, cell.seeds, cell.expected, cell.failed) == (0.9, None, 1, 2, 1)
    assert not cell.complete
    assert lora.mean is None
    assert lora.notes == ("1 failed",)
    assert "digits" not in vera.cells
    assert vera.mean is None
    text = leaderboard(store).to_text()
    (line,) = [line for line in text.splitlines() if line.startswith("lora ")]
    assert line.split() == [
        "lora",
        "0.9000",
        "(1/2)",
        "0.9000",
        "+-",
        "0.0000",
        "3/4",
        "100",
        "90",
    ]
    assert "\nlora: 1 failed\n" in text
    (line,) = [line for line in text.splitlines() if line.startswith("vera")]
    assert " ".join(line.split()) == "vera (0/2) - 0/2 100 90"


def test_a_run_without_the_metric_is_not_scored(store, fill):
    fill(("lora", "mnist", [0.9, float("nan")], {}))
    (row,) = leaderboard(store).rows
    assert (row.cells["mnist"].seeds, row.cells["mnist"].expected) == (1, 2)


def test_several_recipes_make_several_rows_that_show_what_differs(store, fill):
    fill(
        ("lora", "mnist", [0.5, 0.6], {"lr": 0.001}),
        ("lora", "mnist", [0.8, 0.9], {"lr": 0.01}),
        ("linear", "mnist", [0.1, 0.1], {}),
    )
    board = leaderboard(store)
    found = [(row.variant, row.settings, row.mean) for row in board.rows]
    assert found == [
        ("lora", (("lr", "0.01"),), pytest.approx(0.85)),
        ("lora", (("lr", "0.001"),), pytest.approx(0.55)),
        ("linear", (), pytest.approx(0.1)),
    ]
    assert "lora lr=0.01 " in board.to_text()


def test_a_recipe_tuned_per_data_set_is_one_row(store, fill):
    fill(
        ("lora", "mnist", [0.5], {"lr": 0.001, "stage": "final"}),
        ("lora", "digits", [0.7], {"lr": 0.01, "stage": "final"}),
        ("lora", "digits", [0.99], {"lr": 0.1, "stage": "tune"}),
    )
    (row,) = leaderboard(store).rows
    assert (row.settings, row.mean) == ((), pytest.approx(0.6))


def test_configurations_without_a_spec_are_kept_apart(store, fill):
    fill(
        ("lora", "mnist", [0.5], {"spec": None, "config_id": "c1"}),
        ("lora", "mnist", [0.7], {"spec": None, "config_id": "c2"}),
    )
    assert [row.settings for row in leaderboard(store).rows] == [
        (("config_id", "c2"),),
        (("config_id", "c1"),),
    ]


@pytest.mark.parametrize("column", ["data_digest", "weights_digest"])
def test_differing_digests_are_refused(store, fill, column):
    fill(
        ("lora", "mnist", [0.5], {column: "d1" * 32}),
        ("vera", "mnist", [0.7], {column: "d2" * 32}),
    )
    with pytest.raises(TableError, match=f"{column} is {'d1' * 32} in run demo-0 and {'d2' * 32}"):
        leaderboard(store)


def test_backbones_are_kept_apart(store, fill):
    fill(
        ("lora", "mnist", [0.5], {"backbone": "small", "weights_digest": "a"}),
        ("lora", "mnist", [0.7], {"backbone": "large", "weights_digest": "b"}),
    )
    board = leaderboard(store)
    assert [(row.backbone, row.mean) for row in board.rows] == [("large", 0.7), ("small", 0.5)]
    assert "large: lora" in board.to_text()


def test_costs_that_do_not_compare_are_left_out(store, fill):
    seconds = {"epoch_seconds": 1.0, "device": "cpu"}
    fill(
        ("a", "mnist", [0.9], seconds | {"cost_comparable": False}),
        ("b", "mnist", [0.8], seconds),
        ("b", "digits", [0.8], seconds | {"device": "gpu"}),
        ("c", "mnist", [0.7], seconds | {"select_epoch": "oracle_test"}),
    )
    rows = {row.variant: row for row in leaderboard(store).rows}
    assert [rows[name].epoch_seconds for name in "abc"] == [None, None, 1.0]
    assert rows["a"].notes == ("runs whose costs do not compare left out of costs",)
    assert rows["b"].notes == ("several kinds of device: costs left out",)
    assert rows["c"].notes == ("oracle_test: the epoch was chosen on the test set",)


def test_suites_alone_and_together(store, fill):
    fill(("lora", "mnist", [0.5], {}), suite="one")
    fill(("vera", "mnist", [0.7], {}), suite="two")
    assert [row.variant for row in leaderboard(store, "one").rows] == ["lora"]
    both = leaderboard(store)
    assert (both.suites, len(both.rows)) == (("one", "two"), 2)
    with pytest.raises(TableError, match="three given, allowed: one, two"):
        leaderboard(store, "three")


def test_nothing_planned_is_an_error(store):
    with pytest.raises(TableError, match="none given, allowed: none has a plan yet"):
        leaderboard(store)


def test_renderers(store, fill):
    params = {"trainable_params": 1234567, "adapter_params": 1234000, "total_params": 10_000_000}
    fill(("a|b", "mnist", [0.25, 0.75], params))
    board = leaderboard(store)
    lines = board.to_text().splitlines()
    assert lines[0].startswith("demo: test/top1, mean +- sample standard deviation over seeds")
    assert lines[4].split() == [
        "a|b",
        "0.5000",
        "+-",
        "0.3536",
        "0.5000",
        "0.5000",
        "1,234,567",
        "1,234,000",
        "12.346",
    ]
    table = board.to_markdown().splitlines()
    assert table[2].startswith("| a\\|b | 0.5000 +- 0.3536 | 0.5000 | 0.5000 | 1,234,567 |")
    assert len({line.replace("\\|", "").count("|") for line in table[:3]}) == 1
    plain = json.loads(board.to_json())
    assert plain["rows"][0]["cells"]["mnist"]["std"] == pytest.approx(0.125**0.5)
    assert plain["rows"][0]["trainable_params"] == [1234567, 1234567]
    assert plain["metric"] == "test/top1"


def test_the_mean_is_the_mean_of_group_means(store, worked):
    board = leaderboard(store)
    assert board.groups == {"natural": ("mnist", "digits"), "structured": ("shapes",)}
    lora, bitfit = board.rows
    assert lora.groups == {"natural": pytest.approx(0.7), "structured": pytest.approx(0.4)}
    assert (lora.mean, bitfit.mean) == (pytest.approx(0.55), pytest.approx(0.425))


def test_ranks_wins_and_interquartile_means(store, worked):
    lora, bitfit = leaderboard(store).rows
    assert (lora.mean_rank, bitfit.mean_rank) == (pytest.approx(4 / 3), pytest.approx(5 / 3))
    assert (lora.wins, bitfit.wins) == (2, 1)
    # Of nine scores the two least and the two most are left out.
    assert lora.iqm == pytest.approx((0.5 + 0.6 + 0.6 + 0.6 + 0.7) / 5)
    assert bitfit.iqm == pytest.approx((0.3 + 0.6 + 0.6 + 0.6 + 0.6) / 5)


def test_ranks_and_wins_turn_with_the_metric(store, worked):
    lora, bitfit = leaderboard(store, metric="test/nll").rows
    assert (lora.mean_rank, lora.wins) == (pytest.approx(4 / 3), 2)
    assert (bitfit.mean_rank, bitfit.wins) == (pytest.approx(5 / 3), 1)


def test_the_interval_is_that_of_the_group_means(store, worked):
    lora = leaderboard(store).rows[0]
    scores = [[0.9, 0.8, 0.7], [0.6, 0.6, 0.6], [0.5, 0.4, 0.3]]
    assert lora.interval == pytest.approx(
        stats.mean_interval(scores, [0.25, 0.25, 0.5], resamples=RESAMPLES)
    )
    assert lora.interval.low < lora.mean < lora.interval.high


def test_no_interval_below_three_seeds(store, fill):
    fill(("lora", "mnist", [0.5, 0.6, 0.7], {}), ("lora", "digits", [0.5, 0.6], {}))
    board = leaderboard(store)
    assert board.rows[0].mean == pytest.approx(0.575)
    assert board.rows[0].interval is None
    assert "no interval: it needs 3 seeds on every data set" in board.to_text()


def test_incomplete_rows_have_no_sums_and_do_not_move_the_ranks_of_others(store, fill):
    fill(
        ("lora", "mnist", [0.8, 0.8, 0.8], {}),
        ("vera", "mnist", [0.99, 0.99, None], {}),
        ("linear", "mnist", [0.1, 0.1, 0.1], {}),
    )
    lora, linear, vera = leaderboard(store).rows
    assert (lora.mean_rank, lora.wins, linear.mean_rank) == (1, 1, 2)
    assert (vera.runs, vera.expected) == (2, 3)
    assert (vera.mean, vera.interval, vera.iqm, vera.mean_rank, vera.wins) == (None,) * 5


def test_tuning_runs_that_were_spent_are_told(store, fill, attempt):
    rows = fill(
        ("lora", "mnist", [0.9, None, 0.2], {"stage": "tune"}),
        ("lora", "mnist", [0.8], {"stage": "final"}),
        ("linear", "mnist", [0.5], {"stage": "final"}),
    )
    failed = {"status": "failed", "failure_kind": "data"}
    store.commit(attempt(rows[2].run_id, n=2, dataset="mnist", **failed))
    board = leaderboard(store)
    spent = {row.variant: (row.tuning_runs, row.tuning_planned) for row in board.rows}
    assert spent == {"lora": (2, 3), "linear": (0, 0)}
    (line,) = [line for line in board.to_text().splitlines() if line.startswith("lora ")]
    assert line.endswith(" 2/3")


def test_a_data_set_in_two_groups_is_refused(store, fill):
    fill(
        ("lora", "mnist", [0.5], {"dataset_group": "natural"}),
        ("vera", "mnist", [0.7], {"dataset_group": "structured"}),
    )
    with pytest.raises(TableError, match="mnist: dataset_group is natural in run demo-0 and struc"):
        leaderboard(store)


def test_a_run_that_two_suites_share_counts_once(store, cell, attempt):
    for suite in ("one", "two"):
        store.save_plan(suite, DIGEST, "text", [cell("shared", "lora", "mnist", 0, suite=suite)])
    store.commit(attempt("shared", variant="lora", seed=0, metrics={"test/top1": 0.5}))
    (row,) = leaderboard(store).rows
    assert (row.runs, row.expected) == (1, 1)


def test_text_fits_into_120_columns_and_says_what_is_left_out(store, fill):
    cost = {"epoch_seconds": 1.5, "train_seconds": 3.0, "peak_memory_bytes": 2**30}
    cost |= {"total_params": 10**6}
    fill(
        *(
            ("adamss[rank=100,subspaces=10]", f"dataset{n}", [0.1, 0.2, 0.3 + n / 100], cost)
            for n in range(9)
        )
    )
    board = leaderboard(store)
    narrow = board.to_text(width=120)
    assert max(map(len, narrow.splitlines())) <= 120
    assert "left out to fit 120 columns (--wide shows them): datasets" in narrow
    assert "dataset8" in board.to_text()
    assert "95 %" in narrow


def test_columns_that_are_asked_for(store, worked):
    board = leaderboard(store)
    header = board.to_markdown(["wins", "mean"]).splitlines()[0]
    assert header == "| variant | mean | wins |"
    with pytest.raises(TableError, match="columns: 'means' given, allowed: datasets, groups, runs"):
        board.to_text(["means"])


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "csv", "json"])
def test_every_form_says_where_the_table_is_from(store, worked, form):
    board = leaderboard(store, provenance={"store": "my_runs", "commit": "0a1b2c"})
    made = getattr(board, f"to_{form}")()
    for said in ("demo", "test/top1", "my_runs".replace("_", "\\_" if form == "latex" else "_")):
        assert said in made
    assert "0a1b2c" in made


def test_csv_holds_every_number_unrounded(store, worked):
    board = leaderboard(store, provenance={"store": "runs"})
    lora, bitfit = csv.DictReader(io.StringIO(board.to_csv()))
    assert (lora["variant"], bitfit["variant"]) == ("lora[rank=8]", "bitfit")
    assert float(lora["mnist mean"]) == pytest.approx(0.8, rel=1e-12)
    assert float(lora["shapes std"]) == pytest.approx(0.1, rel=1e-12)
    assert float(lora["group natural"]) == pytest.approx(0.7, rel=1e-12)
    assert float(lora["mean_low"]) == board.rows[0].interval.low
    assert (lora["wins"], lora["epoch_seconds"], lora["store"]) == ("2", "", "runs")


def test_latex_escapes_what_means_something_to_tex(store, fill):
    hostile = r"[*]a_b&c%d$e#f{g}h~i^j\k<l>|m--n"
    fill((hostile, "mnist", [0.25, 0.75], {}))
    made = leaderboard(store).to_latex()
    (line,) = [line for line in made.splitlines() if "m{-}{-}n" in line]
    assert line.startswith(
        r"{[}{*}{]}a\_b\&c\%d\$e\#f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k"
        r"\textless{}l\textgreater{}\textbar{}m{-}{-}n & 0.5000 $\pm$ 0.3536 &"
    )
    columns = made.split(r"\begin{tabular}{")[1].partition("}")[0]
    assert line.replace(r"\&", "").count(" & ") == len(columns) - 1


def test_a_leaderboard_of_100_000_runs_takes_less_than_a_second(hundred_thousand):
    plans, runs = hundred_thousand
    seconds = []
    for _ in range(3):
        start = time.process_time()
        board = table.board(scores.join(plans, runs, ["demo"], "test/top1"))
        seconds.append(time.process_time() - start)
    assert (len(board.rows), board.rows[0].expected) == (1000, 100)
    assert all(row.interval.low < row.mean < row.interval.high for row in board.rows)
    assert min(seconds) <= 1


@pytest.fixture
def hundred_thousand():
    """Plan and runs of 1,000 variants on 20 data sets with 5 seeds, in memory."""
    n = 100_000
    rng = np.random.default_rng(0)
    variant, dataset, seed = np.unravel_index(np.arange(n), (1000, 20, 5))
    score = rng.uniform(0.3, 0.7, 1000)[variant] + rng.normal(0, 0.05, n)
    spec = json.dumps({"train": {"lr": 0.001}, "padding": "x" * 1000})
    common = {
        "run_id": [f"run{i:06}" for i in range(n)],
        "variant": [f"method{i}[rank=8]" for i in variant],
        "dataset": [f"dataset{i}" for i in dataset],
        "backbone": ["vit"] * n,
        "seed": seed,
        "trainable_params": variant + dataset,
    }
    plan = {
        "suite": ["demo"] * n,
        "stage": ["single"] * n,
        "config_id": [f"{v}/{d}" for v, d in zip(variant, dataset, strict=True)],
        "spec": [spec] * n,
    }
    metrics = pa.MapArray.from_arrays(np.arange(n + 1), ["test/top1"] * n, score)
    run = {
        "status": ["succeeded"] * n,
        "dataset_group": [("natural", "specialised", "structured")[i % 3] for i in dataset],
        "weights_digest": ["d" * 64] * n,
        "device": ["cpu"] * n,
        "epoch_seconds": rng.uniform(1, 2, n),
        "metrics": metrics,
    }
    return _table(common | plan, schema.PLANS, n), _table(common | run, schema.RUNS, n)


def _table(columns, declared, length):
    made = [
        pa.array(columns[c.name], c.type) if c.name in columns else pa.nulls(length, c.type)
        for c in declared
    ]
    return pa.Table.from_arrays(made, names=[c.name for c in declared])
