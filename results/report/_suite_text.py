"""What a suite file says of itself in words: its opening lines and its question."""

from __future__ import annotations

import re
from itertools import takewhile

_QUESTION = re.compile(r"^question:[ \t]*(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)


def description(text: str) -> tuple[str, ...]:
    """The comment with which the file opens, line by line, without its signs."""
    opening = takewhile(lambda line: line.startswith("#"), text.splitlines())
    return tuple(line.removeprefix("#").removeprefix(" ").rstrip() for line in opening)


def question(text: str) -> str | None:
    """The value of `question`, on one line or indented under it; None where it has none.

    It is only shown, so YAML's finer points (escapes, comments behind it) are left as they stand.
    """
    found = _QUESTION.search(text)
    if found is None:
        return None
    words = " ".join(re.sub(r"^[|>][+-]?\s", "", found[1] + "\n").split())
    quoted = len(words) > 1 and words[0] == words[-1] and words[0] in "\"'"
    return (words[1:-1] if quoted else words) or None
