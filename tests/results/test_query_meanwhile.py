"""Queries on a store that other processes write, compact and collect: no error, nothing torn."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from results.query import query
from results.store import Store

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SECONDS = 10

WRITER = """
import select
import sys
from results.record import Attempt, Epoch
from results.store import Store

store, me, number = Store.open(sys.argv[1]), sys.argv[2], 0
print("ready", flush=True)
sys.stdin.readline()
while not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    run_id = f"{me}{number:05}"
    attempt = store.claim(run_id, {"job": me})
    row = Attempt(
        run_id=run_id, attempt=attempt, status="succeeded", seed=number, method=me,
        variant=f"{me}[{number}]", spec=f"{me}{number}" * 50, metrics={"test/top1": number / 4096},
        params={"rank": str(number)}, train_seconds=number / 2,
    )
    curve = [
        Epoch(run_id=run_id, attempt=attempt, epoch=e, split="train", loss=number + e,
              metrics={"loss": number + e})
        for e in (1, 2, 3)
    ]
    assert store.commit(row, curve)
    print(number, flush=True)
    if number % 32 == 0 and me == "a":
        store.compact()
    if number % 48 == 0 and me == "b":
        store.compact()
        store.gc()
"""
TORN = """
SELECT count(*) AS n,
       count(*) FILTER (variant = method || '[' || seed || ']' AND spec = repeat(method || seed, 50)
                        AND test_top1 = seed / 4096 AND metrics['test/top1'] = test_top1
                        AND params['rank'] = seed::text AND train_seconds = seed / 2
                        AND status = 'succeeded' AND attempts = 1) AS whole
FROM runs
"""
JOINED = """
WITH curves AS (
    SELECT run_id, attempt, count(*) AS epochs, sum(loss) AS loss, sum(metrics['loss']) AS metric
    FROM epochs GROUP BY ALL
)
SELECT count(*) AS n, count(DISTINCT a.run_id) AS runs,
       count(*) FILTER (epochs = 3 AND loss = 3 * a.seed + 6 AND metric = loss) AS whole,
       (SELECT count(*) FROM runs x JOIN attempts y USING (run_id, seed)) AS both
FROM attempts a FULL JOIN curves USING (run_id, attempt)
"""


@pytest.fixture
def writers(store):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.path), me],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in "ab"
    ]
    for writer in started:
        assert writer.stdout.readline() == "ready\n"
    yield started
    for writer in started:
        writer.kill()
        writer.communicate()


def test_a_store_under_write_answers_without_an_error_and_without_a_torn_row(store, writers):
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    seen, generations = [0], set()
    reader, end = Store.open(store.path), time.monotonic() + SECONDS
    while time.monotonic() < end:
        # A new reader knows nothing of what was read before; an old one has it in its caches.
        for opened in (reader, Store.open(store.path)):
            for sql in (TORN, JOINED):
                (row,) = query(opened, sql).to_pylist()
                assert set(row.values()) == {row["n"]}, row
                seen.append(row["n"])
            assert opened.bad_files == []
        generations.update(path.name for path in (store.path / "tables").glob("gen-*.json"))
    assert seen == sorted(seen), "what was committed stays"
    counts = [writer.communicate("stop\n", timeout=60)[0].split()[-1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    (row,) = query(reader, JOINED).to_pylist()
    assert set(row.values()) == {sum(map(int, counts))}
    assert len(set(seen)) > 5
    assert len(generations) > 1, "it was compacted meanwhile"
