"""The report for paper and repositories: Markdown, and LaTeX that compiles as it is.

Shorter than the page: question, state, leaderboard, failures, provenance and commands.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from results import formats
from results import latex as tex
from results.render import fitting
from results.report import commands, pack
from results.report.data import Report, Run

WIDTH = 150
"""Characters of a leaderboard's line that fit on the LaTeX page; other columns are left out."""
_MARKDOWN = re.compile(r"([\\`*_\[\]<>&#|~!$])")
_SHOWN = 3
"""Runs that are named for one kind of failure."""
_LONGEST = 300
"""Characters of an error."""


def markdown(report: Report) -> str:
    """The report in Markdown."""
    parts = [f"# {_md(report.suite)}"]
    if report.question:
        parts.append(_md(report.question))
    parts += ["## State", _md(_state(report)), "## Leaderboard"]
    if report.board is None:
        parts.append(_md(f"No leaderboard: {report.why_no_board}"))
    else:
        parts.append(report.board.to_markdown().rstrip())
    parts += ["## Failures", *(_md_list(_failures(report.failed)) or ["No run failed."])]
    parts += ["## Where it comes from", *_md_list(_provenance(report))]
    parts.append("## Commands")
    parts += [
        f"{_md(what[0].upper() + what[1:])}:\n\n{_fenced(command, 'sh')}"
        for what, command in commands.of_suite(report)
    ]
    if report.text:
        parts += ["## Suite", _fenced(report.text, "yaml")]
    return "\n\n".join(parts) + "\n"


def latex(report: Report) -> str:
    """The report as a whole LaTeX document; needs booktabs, geometry and iftex."""
    lines = [
        "% For pdflatex, xelatex or lualatex.",
        r"\documentclass[a4paper,landscape,10pt]{article}",
        r"\usepackage{iftex}",
        r"\ifPDFTeX\usepackage[T1]{fontenc}\usepackage[utf8]{inputenc}\fi",
        r"\usepackage[margin=15mm]{geometry}",
        r"\usepackage{booktabs}",
        r"\setlength{\parindent}{0pt}\setlength{\parskip}{4pt}\setlength{\tabcolsep}{4pt}",
        r"\sloppy",
        r"\begin{document}",
        rf"\section*{{{tex.escape(report.suite)}}}",
    ]
    if report.question:
        lines.append(tex.escape(report.question))
    lines += [r"\subsection*{State}", tex.escape(_state(report)), r"\subsection*{Leaderboard}"]
    if report.board is None:
        lines.append(tex.escape(f"No leaderboard: {report.why_no_board}"))
    else:
        chosen = fitting(report.board, WIDTH)
        # Where it stands in the text, and not on a page of floats.
        table = report.board.to_latex(chosen).replace(r"\begin{table}", r"\begin{table}[!htbp]", 1)
        lines += [r"{\scriptsize", table.rstrip(), "}"]
    lines += [r"\subsection*{Failures}", *_tex_list(_failures(report.failed), "No run failed.")]
    lines += [r"\subsection*{Where it comes from}", *_tex_list(_provenance(report), "Not known.")]
    lines.append(r"\subsection*{Commands}")
    for what, command in commands.of_suite(report):
        lines.append(rf"{tex.escape(what[0].upper() + what[1:])}:\\")
        lines.append(rf"{{\raggedright\footnotesize\ttfamily {_breakable(command)}\par}}")
    begin = lines.index(r"\begin{document}")
    lines[begin:begin] = _fallbacks("".join(lines))
    return "\n".join([*lines, r"\end{document}", ""])


def _fallbacks(document: str) -> list[str]:
    """For pdflatex, which stops at a character that it has no letter for: its number instead."""
    declared = (
        rf"\ifcsname u8:\detokenize{{{character}}}\endcsname\else"
        rf"\DeclareUnicodeCharacter{{{ord(character):04X}}}{{(U+{ord(character):04X})}}\fi"
        for character in sorted(set(document))
        if not character.isascii()
    )
    return [r"\ifPDFTeX", *declared, r"\fi"]


def _state(report: Report) -> str:
    counted = sorted(report.counts.items(), key=lambda item: (-item[1], item[0]))
    said = f"{report.planned} runs planned: " + ", ".join(f"{n} {status}" for status, n in counted)
    if report.last_ended is not None:
        said += f"; the last attempt ended {report.last_ended.isoformat(' ', 'seconds')}"
    return f"{said}."


def _failures(failed: Sequence[Run]) -> list[str]:
    """One line per kind of failure and error, the most frequent first."""
    alike: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in failed:
        ending = run.attempts[-1].ending
        error = str(ending.get("error") or "no error text")
        short = error if len(error) <= _LONGEST else f"{error[:_LONGEST]} ..."
        alike[str(ending.get("failure_kind")), formats.printable(short)].append(run)
    lines = []
    for (kind, error), runs in sorted(alike.items(), key=lambda item: -len(item[1])):
        named = ", ".join(f"{run.cell.run_id}" for run in runs[:_SHOWN])
        more = f" and {len(runs) - _SHOWN} more" if len(runs) > _SHOWN else ""
        lines.append(f"{len(runs)} x {kind.replace('_', ' ')}: {error} ({named}{more})")
    return lines


def _provenance(report: Report) -> list[str]:
    changed = f", changed by --set {'; '.join(report.overrides)}" if report.overrides else ""
    lines = [f"plan {report.plan} of the suite, digest {report.digest}{changed}"]
    lines += [f"{name}: {value}" for name, value in report.provenance.items()]
    for environment in pack.environments(report.runs):
        count = environment.pop("runs")
        versions = environment.pop("versions", {})
        said = [f"{name.replace('_', ' ')} {value}" for name, value in environment.items()]
        said += [f"{name} {version}" for name, version in versions.items()]
        lines.append(f"{count} successful run{'' if count == 1 else 's'} on: {', '.join(said)}")
    return lines


def _md(text: str) -> str:
    """The text as Markdown that shows it, in one line."""
    escaped = _MARKDOWN.sub(r"\\\1", formats.printable(text))
    # What begins a line with these would be a list, a rule or a heading.
    return re.sub(r"^(\s*)([-+=]|\d+(?=[.)]))", r"\1&#8203;\2", escaped)


def _md_list(lines: Iterable[str]) -> list[str]:
    listed = "\n".join(f"- {_md(line)}" for line in lines)
    return [listed] if listed else []


def _fenced(text: str, language: str) -> str:
    """A block of code under a fence that the text does not hold."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    lines = "\n".join(formats.printable(line) for line in text.split("\n"))
    return f"{fence}{language}\n{lines.rstrip()}\n{fence}"


def _tex_list(lines: Sequence[str], empty: str) -> list[str]:
    if not lines:
        return [empty]
    items = [rf"\item {{}}{tex.escape(line)}" for line in lines]
    return [r"\begin{itemize}", *items, r"\end{itemize}"]


def _breakable(command: str) -> str:
    return " ".join(map(tex.escape, command.split(" ")))
