"""Leaderboards on a store small enough to check by hand."""

import json

import pytest

from results.table import TableError, leaderboard

DIGEST = "0123456789abcdef"


@pytest.fixture
def fill(store, attempt, cell):
    """Plan and commit blocks of (variant, dataset, score or None per seed, settings)."""

    def build(*blocks, suite="demo", **common):
        rows = []
        for variant, dataset, scores, fields in blocks:
            fields = common | fields
            planned = {
                key: fields[key]
                for key in ("lr", "stage", "backbone", "trainable_params", "spec", "config_id")
                if key in fields
            }
            done = {k: v for k, v in fields.items() if k not in ("lr", "stage", "spec")}
            for seed, score in enumerate(scores):
                run_id = f"{suite}-{len(rows)}"
                rows.append(cell(run_id, variant, dataset, seed, suite=suite, **planned))
                if score is not None:
                    metrics = {"test/top1": score, "test/nll": 1 - score}
                    done |= {"dataset": dataset, "variant": variant, "metrics": metrics}
                    store.commit(attempt(run_id, seed=seed, **done))
        store.save_plan(suite, DIGEST, "text", rows)
        return rows

    return build


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
    (line,) = [line for line in text.splitlines() if line.startswith("lora")]
    assert line.split() == [
        "lora",
        "0.9000",
        "(1/2)",
        "0.9000",
        "+-",
        "0.0000",
        "100",
        "90",
        "1",
        "failed",
    ]
    (line,) = [line for line in text.splitlines() if line.startswith("vera")]
    assert " ".join(line.split()) == "vera (0/2) - 100 90"


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
        "1,234,567",
        "1,234,000",
        "12.346",
    ]
    table = board.to_markdown().splitlines()
    assert table[2].startswith("| a\\|b | 0.5000 +- 0.3536 | 0.5000 | 1,234,567 |")
    assert len({line.replace("\\|", "").count("|") for line in table[:3]}) == 1
    plain = json.loads(board.to_json())
    assert plain["rows"][0]["cells"]["mnist"]["std"] == pytest.approx(0.125**0.5)
    assert plain["rows"][0]["trainable_params"] == [1234567, 1234567]
    assert plain["metric"] == "test/top1"
