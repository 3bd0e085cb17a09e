"""Ids of past releases: `tests/golden/run_ids.json` holds suites and the cells they had.

A change here means that stored results are no longer found. Where that is meant (semantics were bumped, a
digest was corrected), `python tests/suites/test_golden.py` writes the file anew.
"""

import json
from pathlib import Path

import pytest

from suites.load import loads

GOLDEN = Path(__file__).parents[1] / "golden" / "run_ids.json"
STORED = json.loads(GOLDEN.read_text())


def cells(document):
    return [
        {
            "run_id": cell.spec.run_id,
            "config_id": cell.spec.config_id,
            "variant": cell.spec.variant,
            "variant_id": cell.spec.variant_id,
            "science": cell.spec.science,
        }
        for cell in loads(json.dumps(document)).cells()
    ]


@pytest.mark.parametrize("entry", STORED, ids=lambda entry: entry["suite"]["suite"])
def test_ids_are_those_of_past_releases(entry):
    assert cells(entry["suite"]) == entry["cells"]


def test_the_file_pins_enough():
    sciences = [cell["science"] for entry in STORED for cell in entry["cells"]]
    assert len(sciences) >= 6
    assert len({science["method"]["name"] for science in sciences}) >= 5


if __name__ == "__main__":
    written = [{"suite": entry["suite"], "cells": cells(entry["suite"])} for entry in STORED]
    GOLDEN.write_text(json.dumps(written, indent=1) + "\n")
