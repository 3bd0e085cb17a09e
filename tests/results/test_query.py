"""SQL answers, and everything that is not one harmless SELECT is refused."""

import json
import random
import time

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import results
from results import reading, schema
from results.formats import format_table
from results.query import QueryError, query
from results.record import Epoch
from results.store import StoreError


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
    assert names == ["attempts", "epochs", "evaluations", "plans", "runs"]


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
        "update runs set seed = 1",
        "delete from runs",
        "drop view runs",
        "explain analyze create table t as select 1",
        "force install httpfs from community",
        "load '{out}'",
        "copy (select 1) to '{out}' (format parquet)",
        "copy (from runs) to '{store}/attempts/forged.1.parquet' (format parquet)",
        "from runs; install httpfs",
        "",
        "-- nothing",
    ],
)
def test_anything_but_one_select_is_refused(full, tmp_path, sql):
    out = tmp_path / "out"
    with pytest.raises(QueryError, match="allowed: exactly one SELECT"):
        query(full, sql.format(out=out, store=full.path))
    assert not out.exists()
    assert not (full.path / "attempts" / "forged.1.parquet").exists()


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
        "select * from parquet_metadata('{store}/attempts/run0.1.parquet')",
        "select * from read_json('{store}/store.json')",
        "select * from read_blob('{store}/store.json')",
        "from '{store}/store.json'",
        "select * from parquet_scan(['{store}/attempts/run0.1.parquet'])",
        "select * from query_table('/etc/passwd')",
        "select getenv('HOME')",
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


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("select seed from runs", {"seed"}),
        ("select avg(seed) from runs where method = 'lora'", {"seed", "method"}),
        ("select count(*) from runs where method in ('lora', 'vera') or rank is null", None),
        ("select max(top1) from epochs join runs using (run_id)", {"top1"}),
        ("select attempts from runs order by attempts", set()),
        ("select metrics['x/y'] from attempts where test_top1 > 0.1", {"metrics", "test_top1"}),
    ],
)
def test_only_the_columns_in_use_are_read(full, monkeypatch, sql, columns):
    read, seen = reading.read_parquet, set()

    def noting(path, name, wanted, *rest):
        seen.update(column.name for column in wanted)
        return read(path, name, wanted, *rest)

    monkeypatch.setattr(reading, "read_parquet", noting)
    query(full, sql)
    always = {"run_id", "attempt", "status", "epochs_file", "epochs_digest"}
    assert seen - always == ({"method", "rank"} if columns is None else columns)


@pytest.mark.parametrize(
    "sql",
    [
        "from runs order by run_id",
        "select * exclude (spec), seed + 1 from attempts order by run_id",
        "select r from runs r order by run_id",
        "select count(*) from runs natural join attempts",
        "select columns('.*_top1') from runs order by run_id",
        "summarize runs",
        "select test_top1, test_nll from runs where test_nll > 1 order by run_id",
        "select run_id from runs where test_nll = 'nan' or failure_kind is not null order by 1",
        "select a.run_id, b.seed from runs a join runs b on a.seed < b.seed order by all",
        "select run_id from runs where not adapted or seed not in (1, 2) order by 1",
        "select run_id from runs where ended_at > '2026-01-01' and method like 'l%'",
        "select run_id, (select max(top1) from epochs e where e.run_id = r.run_id) from runs r order by 1",
        "select epoch, count(*), max(metrics['loss']) from epochs group by all order by all",
        "select * from plans where axes['seed'] is null and overrides = '[]'",
        "select status, attempts from runs where run_id = 'run4'",
    ],
)
def test_answers_are_those_of_duckdb_over_whole_tables(full, attempt, sql):
    full.commit(attempt("run3", metrics={"test/nll": float("nan"), "test/top1": 0.5}, adapted=True))
    full.commit(attempt("run4", status="failed", failure_kind="unknown"))
    full.commit(attempt("run4", 2, status="stopped", seed=7))
    with duckdb.connect() as plain:
        for name in schema.VIEWS:
            table = full.plans_table() if name == "plans" else getattr(full, name)()
            plain.register(f"_{name}", table)
            plain.execute(f"create table {name} as from _{name}")
        expected = plain.sql(sql).to_arrow_table()
    assert repr(query(full, sql).to_pylist()) == repr(expected.to_pylist())
    full.compact()
    assert repr(query(full, sql).to_pylist()) == repr(expected.to_pylist())


def test_a_damaged_store_is_told_as_such(full):
    (full.path / "attempts").rename(full.path / "elsewhere")
    with pytest.raises(StoreError, match="attempts: cannot be read"):
        query(full, "select * from runs")


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


def test_a_column_that_turns_out_damaged_leaves_out_its_rows_and_is_named(
    store, attempt, monkeypatch
):
    letters = random.Random(0)
    store.commit(attempt(spec="".join(chr(letters.randrange(33, 127)) for _ in range(400))))
    store.compact()
    (store.path / "attempts" / "run1.1.parquet").unlink()
    (path,) = (store.path / "tables").glob("attempts-1.*")
    group = pq.read_metadata(path).row_group(0)
    chunks = [group.column(index) for index in range(group.num_columns)]
    (chunk,) = (each for each in chunks if each.path_in_schema == "spec")
    data = bytearray(path.read_bytes())
    data[chunk.dictionary_page_offset + 200] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr("results.generations.Parts.check", lambda self, part: None)
    assert len(query(store, "select run_id from runs")) == 1
    assert store.bad_files == []
    assert len(query(store, "select run_id, spec from runs")) == 0
    assert [bad for bad, _ in store.bad_files] == [path]


@pytest.mark.parametrize("own", [False, True])
def test_a_relation_goes_on_in_duckdb(full, own):
    with duckdb.connect() as connection:
        runs = results.open(full.path).relation("runs", connection if own else None)
        best = runs.filter("test_top1 > 0.3").aggregate("method, avg(test_top1) mean, count(*) n")
        assert best.fetchall() == [("lora", 0.625, 2)]
        assert runs.columns == [column.name for column in schema.RUNS]
        if own:
            connection.execute("create table mine as select 'lora' as method")
            joined = runs.join(connection.table("mine"), "method").aggregate("count(*)")
            assert joined.fetchall() == [(2,)]


def test_a_relation_shows_one_moment(full, attempt):
    runs = full.relation("runs")
    assert runs.aggregate("count(*)").fetchall() == [(3,)]
    full.commit(attempt("run9", seed=1))
    assert runs.aggregate("count(*), sum(seed), count(best_epoch)").fetchall() == [(3, 3, 0)]
    assert full.relation("runs").aggregate("count(*)").fetchall() == [(4,)]


def test_a_relation_of_its_own_connection_reaches_no_file_and_an_unknown_view_is_named(full):
    with pytest.raises(duckdb.Error, match="file system operations are disabled"):
        full.relation("runs").query("runs", "select * from read_text('/etc/passwd')").fetchall()
    with pytest.raises(QueryError, match="'tables' given, allowed: runs, attempts, epochs, plans"):
        full.relation("tables")


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
