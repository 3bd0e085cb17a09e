"""Plans are kept whole, the latest one counts, and the same plan is kept once."""

import json

A, B = "aaaaaaaa11111111", "bbbbbbbb22222222"


def test_a_plan_reads_back_as_it_was_saved(store, cell):
    rows = [
        cell("run1", "lora", "mnist", 0, suite_digest=A, axes={"rank": "8"}),
        cell(None, "lora", "digits", 0, suite_digest=A, stage="final", spec=None),
    ]
    store.save_plan("demo", A, "suite: demo\n", rows, ["train.epochs=1"])
    assert store.plan("demo") == rows
    assert store.plans() == ["demo"]
    (text,) = (store.path / "plans").glob("*.yaml")
    assert text.read_text() == "suite: demo\n"
    table = store.plans_table()
    assert table.column("plan").to_pylist() == [1, 1]
    assert json.loads(table.column("overrides")[0].as_py()) == ["train.epochs=1"]


def test_the_same_plan_is_kept_once(store, cell):
    rows = [cell("run1", "lora", "mnist", 0, suite_digest=A)]
    for _ in range(3):
        store.save_plan("demo", A, "text", rows)
    assert len(list((store.path / "plans").iterdir())) == 2
    store.save_plan("demo", A, "text", rows, ["train.lr=1"])
    assert len(list((store.path / "plans").iterdir())) == 4


def test_the_latest_plan_counts_also_over_digests_and_beyond_nine(store, cell):
    def save(digest, seeds):
        rows = [cell(f"run{s}", "lora", "mnist", s, suite_digest=digest) for s in range(seeds)]
        store.save_plan("demo", digest, "text", rows)

    for seeds in range(1, 12):
        save(B if seeds % 2 else A, seeds)
    assert len(store.plan("demo")) == 11
    assert len(store.plan("demo", A)) == 10
    assert len(store.plan("demo", B)) == 11
    save(A, 3)
    assert len(store.plan("demo")) == 3
    assert store.plan("demo", "cccccccc") == []
    assert store.plan("dem") == []


def test_plans_of_all_suites_and_a_torn_one_set_aside(store, cell):
    for suite in ("demo", "demo-2"):
        rows = [cell(f"{suite}1", "lora", "mnist", 0, suite=suite, suite_digest=A)]
        store.save_plan(suite, A, "text", rows)
    (store.path / "plans" / f"demo.{A[:8]}.2.parquet").write_bytes(b"PAR1")
    assert store.plans() == ["demo", "demo-2"]
    assert store.plans_table().column("run_id").to_pylist() == ["demo1", "demo-21"]
    assert [path.name for path, _ in store.bad_files] == [f"demo.{A[:8]}.2.parquet"]
    rows = [cell("new", "lora", "mnist", 0, suite_digest=A)]
    store.save_plan("demo", A, "text", rows)
    assert store.plan("demo") == rows
