"""SQL answers, and everything that is not one harmless SELECT is refused."""

import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.formats import format_table
from results.query import QueryError, query
from results.record import Epoch


@pytest.fixture
def full(store, attempt, cell):
    for n, (method, score) in enumerate([("lora", 0.5), ("lora", 0.75), ("vera", 0.25)]):
        run_id = f"run{n}"
        rows = [Epoch(run_id=run_id, attempt=1, epoch=e, split="val", top1=e / 10) for e in (1, 2)]
        store.commit(
            attempt(run_id, method=method, seed=n, metrics={"test/top1": score, "x/y": 1.0}), rows
        )
    store.save_plan("demo", "0123456789abcdef", "text", [cell("run0", "lora", "mnist", 0)])
    return store


def test_views_answer(full):
    sql = "select method, avg(test_top1) a, count(*) n from runs group by 1 order by a desc"
    assert query(full, sql).to_pylist() == [
        {"method": "lora", "a": 0.625, "n": 2},
        {"method": "vera", "a": 0.25, "n": 1},
    ]
    joined = query(
        full,
        "SELECT max(e.top1) best, any_value(p.suite) s, any_value(a.metrics['x/y']) m "
        "FROM Epochs e JOIN ATTEMPTS a USING (run_id, attempt) JOIN plans p USING (run_id)",
    )
    assert joined.to_pylist() == [{"best": 0.2, "s": "demo", "m": 1.0}]


def test_common_table_expressions_and_catalogue(full):
    assert query(full, "with t as (select 1 x) select * from t;").to_pylist() == [{"x": 1}]
    names = query(full, "show tables").column("name").to_pylist()
    assert names == ["attempts", "epochs", "plans", "runs"]


@pytest.mark.parametrize(
    "sql",
    [
        "copy runs to '{out}'",
        "attach '{out}' as other",
        "install httpfs",
        "load httpfs",
        "pragma enable_profiling",
        "set threads = 1",
        "select 1; select 2",
        "select 1; copy runs to '{out}'",
        "explain analyze copy runs to '{out}'",
        "explain select 1",
        "create table t as select 1",
        "create macro f() as 1",
        "insert into runs select * from runs",
        "call pragma_version()",
        "export database '{out}'",
        "prepare p as select 1",
        "",
        "-- nothing",
    ],
)
def test_anything_but_one_select_is_refused(full, tmp_path, sql):
    out = tmp_path / "out"
    with pytest.raises(QueryError, match="allowed: exactly one SELECT"):
        query(full, sql.format(out=out))
    assert not out.exists()


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('/etc/passwd')",
        "select * from '/etc/passwd'",
        "select * from '{store}/attempts/run0.1.parquet'",
        "select * from read_parquet('{store}/attempts/*.parquet')",
        "select * from read_text('https://localhost/x')",
        "select * from glob('/etc/*')",
        "select * from query('copy runs to ''{out}''')",
        "select * from sniff_csv('/etc/passwd')",
        "with w as (insert into runs select * from runs returning *) select * from w",
    ],
)
def test_a_select_reaches_no_file(full, tmp_path, sql):
    out = tmp_path / "out"
    with pytest.raises(QueryError):
        query(full, sql.format(out=out, store=full.path))
    assert not out.exists()


def test_python_variables_are_out_of_reach(full, monkeypatch):
    # DuckDB looks in the globals of the module that calls it.
    monkeypatch.setattr("results.query.secret", pa.table({"x": [1]}), raising=False)
    with pytest.raises(QueryError, match="secret does not exist"):
        query(full, "select * from secret")


def test_errors_pass_the_hint_through(full):
    with pytest.raises(QueryError, match=r"(?s)test_top5.*test_top1"):
        query(full, "select test_top5 from runs")
    with pytest.raises(QueryError, match=r'(?s)epoch does not exist.*"epochs"'):
        query(full, "select * from epoch")
    with pytest.raises(QueryError, match="syntax error"):
        query(full, "selekt 1")


def test_the_time_limit_stops_a_query(full):
    start = time.monotonic()
    with pytest.raises(QueryError, match=r"time limit of 0\.3 s"):
        query(
            full,
            "select count(*) from range(1e11::bigint) a, range(1e9::bigint) b",
            time_limit_s=0.3,
        )
    assert time.monotonic() - start < 5


def test_the_memory_limit_stops_a_large_answer(full):
    with pytest.raises(QueryError, match="memory limit of"):
        query(full, "select * from range(1e11::bigint)", memory_limit=64 << 20)


def test_times_are_utc(store, attempt):
    from datetime import UTC, datetime, timedelta, timezone

    elsewhere = datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=5)))
    store.commit(attempt(started_at=elsewhere))
    (row,) = query(store, "select started_at, started_at::text t from runs").to_pylist()
    assert row["started_at"] == datetime(2026, 1, 1, 22, tzinfo=UTC)
    assert row["t"] == "2026-01-01 22:00:00+00"


def test_formats(full):
    table = query(
        full,
        "select run_id, sum(seed) s, any_value(metrics) m, null n, 'nan'::double f from runs "
        "where run_id = 'run2' group by 1",
    )
    (row,) = json.loads(format_table(table, "json"))
    metrics = {"test/top1": 0.25, "x/y": 1.0}
    assert row == {"run_id": "run2", "s": 2, "m": metrics, "n": None, "f": None}
    header, line = format_table(table, "csv").decode().splitlines()
    assert header == "run_id,s,m,n,f"
    assert line == 'run2,2,"{""test/top1"": 0.25, ""x/y"": 1.0}",,nan'
    assert pq.read_table(pa.BufferReader(format_table(table, "parquet"))).num_rows == 1
    with pytest.raises(QueryError, match="'xml' given, allowed: table, csv, json, parquet"):
        format_table(table, "xml")


def test_text_is_aligned_and_cannot_drive_the_terminal():
    table = pa.table({"name": ["a\x1b[2J\nb", "x" * 100], "n": [1, None], "f": [0.1234567, 12.0]})
    lines = format_table(table, "table").decode().split("\n")
    assert lines[0].split() == ["name", "n", "f"]
    assert lines[2].split() == ["a\\x1b[2J\\nb", "1", "0.123457"]
    assert lines[3].split() == ["x" * 57 + "...", "12"]
    assert len(set(map(len, lines[:4]))) == 1
