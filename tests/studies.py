"""`make studies`: what the README says of the tuned quickstart, asked of the store."""

from __future__ import annotations

import sys

from results.query import query
from results.store import Store

BEATEN_BY = 3
"""How many methods must beat `linear` on mean test accuracy, on each data set."""

SQL = """
SELECT p.dataset, p.method, avg(r.test_top1) AS mean, count(r.test_top1) AS seeds
FROM plans p JOIN runs r USING (run_id)
WHERE p.suite = 'quickstart_tune' AND p.stage = 'final'
GROUP BY ALL ORDER BY ALL
"""


def main() -> int:
    """0 if on every data set at least `BEATEN_BY` methods beat `linear`, each over three seeds."""
    rows = query(Store.open("runs"), SQL).to_pylist()
    means = {(row["dataset"], row["method"]): row["mean"] for row in rows}
    datasets = sorted({row["dataset"] for row in rows})
    holds = len(datasets) >= 2 and all(row["seeds"] == 3 for row in rows)
    for dataset in datasets:
        linear = means[dataset, "linear"]
        above = [m for (d, m), mean in means.items() if d == dataset and mean > linear]
        print(f"{dataset}: linear {linear:.4f}, beaten by {len(above)}: {', '.join(above)}")
        holds = holds and len(above) >= BEATEN_BY
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
