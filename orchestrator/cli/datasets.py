"""Commands about data sets: what there is, whether it is here and sound, and how to get it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.app import ExitCode, JsonOption, app, echo, echo_json, fail, show

if TYPE_CHECKING:
    from adapters.data._audit import Audit

DATA_ROOT = "PEFTGRID_DATA"


def use_data_root(root: Path | None) -> None:
    """From here on this process, and what it starts, finds data sets there; None changes nothing."""
    if root is not None:
        os.environ[DATA_ROOT] = str(root.expanduser().absolute())


DataRootOption = Annotated[
    Path | None,
    typer.Option("--data-root", help=f"The folder with the data sets; else {DATA_ROOT}."),
]
EntryArgument = Annotated[
    str,
    typer.Argument(
        help="As in a suite: `vtab1k/cifar` or `{name: image_folder/pets, classes: 9, train: 90, val: 9}`."
    ),
]

datasets = typer.Typer(
    name="datasets",
    help="The data sets that suites may name: whether they are here, sound, and how to get them.",
)
app.add_typer(datasets)


@datasets.callback(invoke_without_command=True)
def listed(
    context: typer.Context, data_root: DataRootOption = None, as_json: JsonOption = False
) -> None:
    """The data sets that suites may name, and whether their images are on this machine."""
    use_data_root(data_root)
    if context.invoked_subcommand is not None:
        return
    from adapters import registry

    rows = []
    for name in registry.datasets():
        module = registry.dataset(name)
        missing = module.missing()
        rows.append(
            {
                "data set": name,
                "group": module.GROUP,
                "classes": "" if module.CLASSES is None else str(module.CLASSES),
                "here": "yes" if missing is None else f"no: {missing}",
            }
        )
    rows += [
        {"data set": f"{family}/NAME", "group": "", "classes": "", "here": "your own: docs/data.md"}
        for family in registry.families_of_your_own()
    ]
    show(rows, as_json)


@datasets.command()
def check(
    entry: EntryArgument,
    data_root: DataRootOption = None,
    indices: Annotated[
        Path | None,
        typer.Option("--indices", help="Write the names of the images of each set as JSON."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at every image of a data set: counts, labels, unreadable files, leaks, digest.

    Exit code 0 where it is sound, 2 where it is absent, 3 where something is wrong with it.
    """
    from adapters import registry
    from adapters.data import _audit

    use_data_root(data_root)
    name, config = _meant(entry)
    missing = registry.dataset(name).missing()
    if missing is not None:
        fail(f"{name}: not on this machine: {missing}", ExitCode.USAGE)
    try:
        found = _audit.audit(name, config)
    except (ValueError, OSError, ImportError) as error:
        fail(f"{name}: {error}", ExitCode.FAILED_RUNS)
    if indices is not None:
        members = _audit.members(registry.dataset(name).load(config))
        indices.write_text(json.dumps(members, indent=1) + "\n")
    if as_json:
        echo_json({"dataset": name, **_as_dict(found)})
    else:
        _tell(name, found)
    sys.exit(ExitCode.FAILED_RUNS if found.problems else ExitCode.DONE)


@datasets.command()
def get(
    name: Annotated[str, typer.Argument(help="A data set that can be downloaded.")],
    data_root: DataRootOption = None,
) -> None:
    """Download a data set into the data root, or say what to do by hand."""
    from adapters import registry

    use_data_root(data_root)
    module = registry.dataset(name)
    missing = module.missing()
    if missing is None:
        echo(f"{name}: already on this machine")
        return
    download = registry.downloader(name)
    if download is None:
        fail(f"{name}: it cannot be downloaded by a command: {missing}", ExitCode.USAGE)
    try:
        download()
    except ValueError as error:
        fail(str(error), ExitCode.USAGE)
    except OSError as error:
        fail(f"{name}: {error}", ExitCode.UNREACHABLE)
    echo(f"{name}: now on this machine")


def _meant(entry: str) -> tuple[str, Any]:
    """The data set and its settings, read as a suite reads them."""
    from suites.load import loads

    text = (
        "schema: 1\nsuite: check\nbackbone: vit_base_patch16_224\nmethods: [linear]\n"
        f"datasets:\n  - {entry}\n"
    )
    cell = next(loads(text, file="what was given").cells())
    trial = cell.spec.trial()
    return trial.dataset, trial.dataset_config


def _tell(name: str, found: Audit) -> None:
    for kind, size in found.sizes.items():
        least, most = found.per_class[kind]
        echo(
            f"{kind:<6} {size:>9,} images, {least:,} to {most:,} of each of {found.classes} classes"
        )
    declared = {None: "not declared", found.digest: "as declared"}.get(
        found.declared, "NOT as declared"
    )
    echo(f"digest {found.digest} ({declared})")
    if found.declared is None:
        echo(f"to hold runs to these very images: {{name: {name}, ..., digest: {found.digest}}}")
    for problem in found.problems:
        echo(problem)
    echo(f"{name}: " + (f"{len(found.problems)} problems" if found.problems else "sound"))


def _as_dict(found: Audit) -> dict[str, Any]:
    import dataclasses

    return {**dataclasses.asdict(found), "problems": found.problems}
