"""Tables in LaTeX (booktabs), with every character escaped that means something to TeX."""

from __future__ import annotations

from collections.abc import Sequence

from results.formats import printable

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "`": r"{\char96}",
    "'": r"{\char39}",
    "-": r"{-}",
    # After the end of a line these would be taken as its optional argument and its star.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
}


def escape(text: str) -> str:
    """The text as LaTeX that prints it; hyphens make no dashes. Control characters as `printable`."""
    return "".join(_ESCAPES.get(character, character) for character in printable(text))


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool],
    *,
    caption: str,
    remarks: Sequence[str],
) -> str:
    """A table float of the cells under a caption, with remarks below; needs the package booktabs.

    Columns in `right` are aligned to the right. `+-` in a cell becomes the sign.
    """
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_cell(caption)}}}",
        rf"\begin{{tabular}}{{{''.join('r' if to_right else 'l' for to_right in right)}}}",
        r"\toprule",
        _line(header),
        r"\midrule",
        *map(_line, rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {_cell(remark)}" for remark in remarks),
        r"\end{table}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(_cell, cells)) + r" \\"


def _cell(text: str) -> str:
    return escape(text).replace(escape("+-"), r"$\pm$")
