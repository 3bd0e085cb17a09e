"""A comparison as text, Markdown, LaTeX and JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from results import formats
from results import latex as tex
from results.render import number, source

if TYPE_CHECKING:
    from results.agreement import Agreement
    from results.compare import Comparison, Pair
    from results.stats import Interval

_HEADER = (
    *("variants", "pairs", "difference", "95 %", "d_z", "better on", "P(better)", "95 %", "p"),
    "p Holm",
)


def text(comparison: Comparison) -> str:
    """What may be claimed, the numbers of each pair, the ranking, and what is missing."""
    said = "".join(f"{line}\n" for line in _claims(comparison))
    legend = "".join(f"{line}\n" for line in _legend(comparison))
    parts = [said, legend, formats.aligned(*_grid(comparison))]
    if comparison.ranking:
        parts.append(formats.aligned(*_ranks(comparison)))
    if comparison.agreement:
        parts.append(formats.aligned(*_images(comparison)))
    return "\n".join([*parts, "".join(f"{line}\n" for line in _remarks(comparison))])


def markdown(comparison: Comparison) -> str:
    """The same in Markdown."""
    listed = "".join(f"- {_escaped(line)}\n" for line in _claims(comparison))
    legend = "".join(f"- {_escaped(line)}\n" for line in _legend(comparison))
    parts = [listed, legend, formats.markdown(*_grid(comparison))]
    if comparison.ranking:
        parts.append(formats.markdown(*_ranks(comparison)))
    if comparison.agreement:
        parts.append(formats.markdown(*_images(comparison)))
    return "\n".join([*parts, *(f"{_escaped(line)}\n" for line in _remarks(comparison))])


def latex(comparison: Comparison) -> str:
    """The pairs as one LaTeX table and the ranks as another."""
    caption = f"{', '.join(comparison.suites)}: {comparison.metric}"
    made = tex.table(
        *_grid(comparison),
        caption=f"{caption}, by pairs",
        remarks=[*_legend(comparison), *_claims(comparison), *_remarks(comparison)],
    )
    if comparison.ranking:
        origin = source(comparison.suites, comparison.metric, comparison.provenance)
        made += tex.table(
            *_ranks(comparison),
            caption=f"{caption}, mean ranks",
            remarks=[comparison.ranking.claim, origin],
        )
    if comparison.agreement:
        made += tex.table(
            *_images(comparison),
            caption=f"{', '.join(comparison.suites)}: images of {comparison.agreement.dataset}",
            remarks=_of_images(comparison.agreement),
        )
    return made


def as_json(comparison: Comparison) -> str:
    """One object; intervals as pairs, missing numbers as null."""
    return json.dumps(dataclasses.asdict(comparison), indent=1) + "\n"


def _claims(comparison: Comparison) -> list[str]:
    lines = []
    for pair in comparison.pairs:
        claimed = pair.claim.startswith("no claim")
        lines.append(f"{pair.a} and {pair.b}: {pair.claim}" if claimed else pair.claim)
    if comparison.ranking:
        lines.append(f"ranks: {comparison.ranking.claim}")
    return [formats.printable(line) for line in lines]


def _legend(comparison: Comparison) -> list[str]:
    """The numbers by which the table names the variants."""
    names = enumerate(comparison.variants, start=1)
    return [f"({number}) {formats.printable(name)}" for number, name in names]


def _grid(comparison: Comparison) -> tuple[list[str], list[list[str]], list[bool]]:
    """Header, a line per pair, and which columns are aligned to the right."""
    places = {name: number for number, name in enumerate(comparison.variants, start=1)}
    rows = [[f"({places[pair.a]}) - ({places[pair.b]})", *_line(pair)] for pair in comparison.pairs]
    return list(_HEADER), rows, [False] + [True] * (len(_HEADER) - 1)


def _line(pair: Pair) -> list[str]:
    return [
        str(pair.pairs) if not pair.missing else f"{pair.pairs}/{pair.pairs + len(pair.missing)}",
        "" if pair.difference is None else f"{pair.difference:+.4f}",
        _interval(pair.interval, "+.4f"),
        number(pair.effect_size, 2),
        f"{pair.better_on}/{pair.datasets}",
        number(pair.improvement, 3),
        _interval(pair.improvement_interval, ".3f"),
        _p(pair.p),
        _p(pair.p_holm),
    ]


def _ranks(comparison: Comparison) -> tuple[list[str], list[list[str]], list[bool]]:
    ranking = comparison.ranking
    assert ranking is not None
    ranks = [f"{rank:.3f}" for rank in ranking.mean_ranks] or [""] * len(ranking.variants)
    names = map(formats.printable, ranking.variants)
    return (
        ["variant", "mean rank"],
        [list(line) for line in zip(names, ranks, strict=True)],
        [False, True],
    )


def _images(comparison: Comparison) -> tuple[list[str], list[list[str]], list[bool]]:
    """A line per pair and seed."""
    assert comparison.agreement is not None
    places = {name: number for number, name in enumerate(comparison.variants, start=1)}
    lines = [
        [
            f"({places[test.a]}), ({places[test.b]})",
            *map(str, (test.seed, test.images, test.only_a, test.only_b)),
            *map(_p, (test.p, test.p_holm)),
        ]
        for test in comparison.agreement.tests
    ]
    header = ["models", "seed", "images", "only 1st right", "only 2nd right", "p", "p Holm"]
    return header, lines, [False] + [True] * 6


def _of_images(agreement: Agreement) -> list[str]:
    """What the lines of `_images` mean, and what the models do together."""
    rules = ", ".join(f"{top1:.4f} by {rule}" for rule, top1 in agreement.ensembles.items())
    test = f"models: McNemar's exact test on the images of {agreement.dataset}, seed by seed; "
    together = f"all {len(agreement.variants)} together: top-1 {rules}; at least one is right "
    said = [
        f"{test}it is about these trained models, not about the methods",
        f"{together}on {agreement.any_right:.4f} of the images",
        *(f"no predictions: {line}" for line in agreement.missing),
    ]
    return [formats.printable(line) for line in said]


def _remarks(comparison: Comparison) -> list[str]:
    """What the columns mean, what is missing, and where it is from."""
    higher = "higher" if comparison.higher_is_better else "lower"
    remarks = [
        f"{comparison.metric}, {higher} is better; paired by data set and seed",
        "difference: mean over seeds, then data sets, then groups",
        "d_z: mean over standard deviation of the differences of all pairs of runs",
        "better on: data sets where the first is better; P(better): that a run of it is",
        "95 %: percentile bootstrap, seeds drawn within each data set",
        "p: Wilcoxon's signed-rank test over all pairs of runs; Holm: corrected for the pairs of variants",
    ]
    if ranking := comparison.ranking:
        said = f"mean ranks over {len(ranking.datasets)} data sets"
        if ranking.chi2 is not None:
            shown = "infinite" if ranking.f is None else f"{ranking.f:.2f}"
            said += (
                f": Friedman chi2 = {ranking.chi2:.2f}, F = {shown}, p = {_p(ranking.p)}, "
                f"critical difference (Nemenyi) {ranking.critical_difference:.2f}"
            )
        remarks.append(said)
        if ranking.left_out:
            remarks.append(f"not ranked, incomplete: {', '.join(ranking.left_out)}")
    if comparison.agreement:
        remarks += _of_images(comparison.agreement)
    for pair in comparison.pairs:
        remarks += [f"missing pair ({pair.a} - {pair.b}): {line}" for line in pair.missing]
    printed = [formats.printable(line) for line in remarks]
    return [*printed, source(comparison.suites, comparison.metric, comparison.provenance)]


def _interval(interval: Interval | None, form: str) -> str:
    return "" if interval is None else f"{interval.low:{form}}..{interval.high:{form}}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _escaped(line: str) -> str:
    return line.replace("<", "&lt;")
