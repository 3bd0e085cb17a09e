"""The room stays light: no torch, no ray, and nothing at all until something is used."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def loaded(code):
    heavy = "['torch', 'ray', 'adapters', 'orchestrator', 'suites', 'pyarrow', 'duckdb', 'pandas']"
    script = f"import sys; {code}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_importing_the_room_loads_nothing_heavy():
    assert loaded("import results, results.metrics, results.selection") == "[]"


def test_neither_torch_nor_ray_is_ever_loaded():
    code = "import results.query, results.table, results.formats; results.metrics.all_metrics()"
    assert loaded(code) == "['pyarrow', 'duckdb']"
