"""A report as one HTML file that loads nothing: style, script and data stand in it.

The page is made twice from the same numbers: as HTML here, for readers without scripts, and by
`static/report.js` from the data, sortable and with figures. Everything from a store is escaped
by the template, stands in the data as `pack.to_json` writes it, and the script shows it as text
alone. The policy allows this style and this script by their hashes and no other source.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

import jinja2

from results import render
from results.report import commands, pack
from results.report.data import Report


def html(report: Report, *, poll: str | None = None) -> str:
    """The page; with `poll` it asks that address of its own server for newer data."""
    packed = pack.pack(report)
    return _template("page.html.jinja").render(
        report=report,
        counts=packed["counts"],
        shown=None if report.board is None else render.shown(report.board),
        commands=commands.of_suite(report),
        poll=poll,
        policy=policy(asks=poll is not None),
        style=_static("report.css"),
        script=_static("report.js"),
        data=pack.to_json(packed),
    )


def index(store: str, suites: Sequence[str]) -> str:
    """A page of links to the suites, for a server."""
    page = _template("index.html.jinja")
    return page.render(
        store=store, suites=suites, style=_static("report.css"), policy=policy(asks=False)
    )


@cache
def policy(*, asks: bool) -> str:
    """The Content-Security-Policy of the pages; one that `asks` its own server for data may."""
    script, style = (_hash(_static(name)) for name in ("report.js", "report.css"))
    source = "'self'" if asks else "'none'"
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; "
        f"connect-src {source}; img-src data:; base-uri 'none'; form-action 'none'"
    )


@cache
def _static(name: str) -> str:
    return (resources.files("results.report") / "static" / name).read_text(encoding="utf-8")


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(_static(name))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
