"""WiSE curves on worked examples: what is drawn, what is left out, and why."""

import pytest

from results import figures
from results.evaluations import Evaluation
from results.figures import FigureError


@pytest.fixture
def evaluated(store, attempt, cell):
    """Variants with two seeds on mnist and the evaluations that are given as set -> alphas."""

    def build(sets, *, lacking=()):
        rows = []
        for variant in ("lora", "full"):
            for seed in range(2):
                run_id = f"{variant}{seed}"
                rows.append(cell(run_id, variant, "mnist", seed))
                store.commit(attempt(run_id, variant=variant, seed=seed, metrics={"test/top1": 1}))
                for name, alphas in sets.items():
                    found = [
                        Evaluation(
                            run_id=run_id,
                            set=name,
                            split="test",
                            mode="all",
                            alpha=alpha,
                            own=name == "mnist",
                            metrics={
                                "top1": alpha * (0.5 if name == "mnist" else 0.25) + seed / 10
                            },
                        )
                        for alpha in alphas
                        if (run_id, name, alpha) not in lacking
                    ]
                    store.save_evaluations(found)
        store.save_plan("demo", rows[0].suite_digest, "text", rows)
        return store

    return build


SETS = {"mnist": (0.0, 0.5, 1.0), "mnist+jpeg:1": (0.0, 0.5, 1.0)}


def test_a_point_is_the_mean_over_seeds_of_one_alpha(evaluated):
    drawing = figures.make(evaluated(SETS), "wise", "demo").drawing
    assert drawing.records[:3] == (
        ("lora", "mnist", "mnist+jpeg:1", 0.0, pytest.approx(0.05), pytest.approx(0.05), 2),
        ("lora", "mnist", "mnist+jpeg:1", 0.5, pytest.approx(0.3), pytest.approx(0.175), 2),
        ("lora", "mnist", "mnist+jpeg:1", 1.0, pytest.approx(0.55), pytest.approx(0.3), 2),
    )
    assert "from 0.0500 (own 0.0500) to 0.3000 (own 0.5500), largest 0.3000 at alpha 1" in (
        drawing.says
    )


def test_several_shifted_sets_have_their_mean_first(evaluated):
    drawing = figures.make(evaluated({**SETS, "digits": (0.0, 0.5, 1.0)}), "wise", "demo").drawing
    assert list(dict.fromkeys(record[2] for record in drawing.records)) == [
        *("mean of the shifted sets", "digits", "mnist+jpeg:1"),
    ]


def test_a_variant_that_misses_an_alpha_of_a_seed_is_left_out_and_named(evaluated):
    store = evaluated(SETS, lacking=[("lora1", "mnist", 0.5)])
    picture = figures.make(store, "wise", "demo")
    assert {record[0] for record in picture.drawing.records} == {"full"}
    assert any("misses seeds, alphas or sets: lora on mnist" in line for line in picture.caption)


@pytest.mark.parametrize("sets", [{}, {"mnist": (0.0, 1.0)}, {"mnist": (0.5,), "digits": (0.5,)}])
def test_without_a_path_on_the_own_and_a_further_set_there_is_nothing_to_draw(evaluated, sets):
    with pytest.raises(FigureError, match="wise: no variant has a complete path"):
        figures.make(evaluated(sets), "wise", "demo")
