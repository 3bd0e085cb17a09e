"""Every shipped suite loads and asks for as many runs as its head says, with the arithmetic beside it."""

import re
from functools import cache

import pytest

from suites import catalog
from suites.load import load as load_anew

TLORA_FAMILY = 6 * 3  # six factorisations at ranks 1, 4 and 8
OSU_GRID = (  # candidates of a task in the study's grids, four points of rate and decay in each
    6 * 1  # linear, full, bitfit, layernorm, difffit, ssf
    + 5  # vpt_shallow: prompts
    + 4  # vpt_deep: prompts
    + 3 * 3  # adaptformer: widths x scales
    + 5 * 4  # pfeiffer
    + 4 * 4  # houlsby
    + 2 * 5 * 2  # convpass: widths x scales x kernels
    + 3 * 5  # repadapter
    + 4  # lora: ranks
    + 3 * 5  # fact_tt
    + 3 * 5  # fact_tk
)
MANY_SHOT = 5 + 2 + 4 + 4 * 2 + 2 * 2 + 4 * 2 + 4 + 2 * 2 + 4 + 3 + 3
# First the cells that are there from the start, then the finals that a protocol selects.
RUNS = {
    "smoke": (2 * 2, 0),
    "quickstart": (6 * 2 * 2, 0),
    "quickstart_tune": (7 * 2 * 2, 7 * 2 * 3),
    "tlora_cifar10": (
        TLORA_FAMILY + 1 + 1,
        0,
    ),  # HF's LoRA, the classifier alone: 20 cells of its table
    "tlora_cub200": (TLORA_FAMILY + 1 + 1, 0),  # q, k and v whole, the classifier alone: 20 cells
    "adamss_vision": (2 * 2 * 7 * 5, 0),  # backbones x with and without ASA x data sets x seeds
    "miss_modes": (7 * 3 * 3, 7 * 3 * 3),  # variants x tasks x rates; variants x tasks x seeds
    "adapters_vits_vtab": (4 * 2 * 3 + 4 * 1 * 1 + 1 * 2 * 1, 0),
    "osu_vtab1k": (OSU_GRID * 4 * 19, 16 * 19),
    "osu_many_shot": (MANY_SHOT * 2 * 2 * 3 * 2, 15 * 2),  # rates x decays x drop paths x data sets
    "osu_robustness": (12 * 2, 12),
    "osu_recipes": (21 + 1, 0),
    "tlora_cifar10_mini": (14 * 2, 14),
    "tlora_cub200_mini": (8 * 2, 8),
    "adamss_vision_mini": (2 * 2 * 2, 2 * 2 * 2),
    "miss_modes_mini": (5 * 2, 5 * 2),
    "adapters_vits_vtab_mini": (4 * 2 + 4 + 1, 0),
    "osu_vtab1k_mini": ((4 + 2) * 2 * 3, 5 * 3),
    "osu_many_shot_mini": (4 * 2, 4),
    "osu_robustness_mini": (5 * 2, 5 * 2),
    "osu_recipes_mini": (21 + 1, 0),
}

load = cache(load_anew)


def test_every_shipped_suite_is_counted_here():
    assert sorted(RUNS) == list(catalog.names())


@pytest.mark.parametrize("name", RUNS)
def test_a_shipped_suite_has_as_many_runs_as_its_grids_make(name):
    suite = load(name)
    finals = sum(group.final_count for group in suite.groups())
    assert (len(list(suite.cells())), finals) == RUNS[name]


@pytest.mark.parametrize("name", RUNS)
def test_a_shipped_suite_opens_with_question_command_cost_and_what_to_expect(name):
    head = re.match(r"(#.*\n)+", catalog.path(name).read_text())[0]
    assert re.findall(r"^# (\w+):", head, re.MULTILINE) == ["Question", "Command", "Cost", "Expect"]
    assert f"peftgrid run {name}" in head
    assert load(name).question
    counts = [n for n in RUNS[name] if n]
    if name not in ("smoke", "quickstart"):
        assert all(re.search(rf"\b{n:,} (runs|tuning runs|final runs)", head) for n in counts), (
            counts
        )


@pytest.mark.parametrize("name", [name for name in RUNS if f"{name}_mini" in RUNS])
def test_a_study_and_its_small_twin_compare_the_same_methods(name):
    methods, small = (
        {cell.spec.method for cell in load(each).cells()} for each in (name, f"{name}_mini")
    )
    assert small <= methods
    assert len(small) >= min(4, len(methods))


def test_the_studys_grids_have_the_published_sizes():
    """Sizes of the VTAB-1K grids, rates and decays included; the study's names are in the suite."""
    published = dict.fromkeys(("bitfit", "ssf", "layernorm", "difffit", "linear", "full"), 4)
    published |= {"adaptformer": 36, "convpass": 80, "fact_tk": 60, "fact_tt": 60, "lora": 16}
    published |= {
        "pfeiffer": 80,
        "houlsby": 64,
        "repadapter": 60,
        "vpt_deep": 16,
        "vpt_shallow": 20,
    }
    found: dict[str, int] = {}
    for cell in load("osu_vtab1k").cells():
        if cell.spec.dataset == "vtab1k/cifar":
            found[cell.spec.method] = found.get(cell.spec.method, 0) + 1
    assert found == published
