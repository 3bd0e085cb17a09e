"""The command line. Commands import what they need when they run, so `--help` stays quick."""

from __future__ import annotations

import sys

from orchestrator.cli import (
    care,
    catalog,
    check,
    compare,
    cost,
    datasets,
    evaluate,
    export,
    figure,
    look,
    report,
    start,
    submit,
    text_head,
    watch,
)
from orchestrator.cli.app import ExitCode, app, fail

__all__ = ["app", "main"]

# Command modules register themselves on `app` when they are imported.
_COMMANDS = (
    check,
    start,
    submit,
    watch,
    look,
    compare,
    figure,
    report,
    evaluate,
    cost,
    datasets,
    export,
    care,
    catalog,
    text_head,
)

_USAGE = {
    "SuiteError",
    "StoreError",
    "TableError",
    "FigureError",
    "ExportError",
    "QueryError",
    "PackageError",
    "PluginError",
    "UnknownNameError",
    "RequestError",
}
"""Errors that the user can mend, by class name: importing the classes here would cost every start."""


def main() -> None:
    """Entry point of the `peftgrid` command."""
    try:
        app()
    except Exception as error:
        names = {cls.__name__ for cls in type(error).__mro__}
        if {"ClusterError", "UnreachableError"} & names:
            fail(str(error), ExitCode.UNREACHABLE)
        elif "LeaseHeldError" in names:
            fail(str(error), ExitCode.HELD)
        elif names & _USAGE:
            fail(str(error), ExitCode.USAGE)
        else:
            raise
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
