"""Large suites: planning stays cheap per cell, and its short way to ids is the plain one."""

import base64
import hashlib
import json
import time

import pytest

from orchestrator.cli.plan_text import print_plan
from orchestrator.plan import make_plan
from suites.load import load, loads
from tests.bench import plans

CELLS, DONE = 20_000, 2_000


def plain_id(science):
    """An id by its definition: base32 of SHA-256 over the canonical JSON."""
    text = json.dumps(science, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:10]).decode().lower()


def without(science, key):
    return {name: part for name, part in science.items() if name != key}


@pytest.mark.parametrize("name", ["osu_recipes", "adamss_vision", "miss_modes", "quickstart"])
def test_ids_are_those_of_the_plain_definition(name):
    specs = [cell.spec for cell in load(name).cells()]
    for spec in specs[:: max(1, len(specs) // 50)]:
        assert spec.run_id == plain_id(spec.science)
        assert spec.config_id == plain_id(without(spec.science, "seed"))
        assert spec.variant_id == plain_id(spec.science["method"])


def test_a_large_plan_costs_microseconds_per_cell(tmp_path):
    store = plans.finished(tmp_path, plans.suite(DONE, 1))
    make_plan(plans.suite(DONE, 1), store)  # what the first plan imports
    began = time.process_time()
    planned = make_plan(plans.suite(CELLS, 10), store)
    spent = time.process_time() - began
    assert planned.counts()["succeeded"] == DONE
    assert len(planned.runs) == CELLS
    # 12 us were measured: what is ten times slower, or quadratic, does not pass.
    assert spent / CELLS < 100e-6


def test_cells_of_one_configuration_share_what_is_equal():
    first, second, *_ = plans.suite(10_000, 10).cells()
    assert first.spec.config_id == second.spec.config_id
    assert first.spec.run_id != second.spec.run_id
    assert first.spec.seedless is second.spec.seedless
    assert first.place is second.place


def test_a_large_plan_is_printed_as_a_summary(capsys):
    suite = loads("""
schema: 1
suite: long
backbone: vit_small14_focus
methods: [linear]
datasets: [mnist]
seeds: 500
""")
    print_plan(suite, make_plan(suite, None), as_json=False)
    printed = capsys.readouterr().out
    assert "seed: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..., 499 (500 values)" in printed
    assert len(printed.splitlines()) < 20
