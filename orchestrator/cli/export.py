"""What leaves the store: `export`, runs for other tools, and `export-model`, a trained model.

The model is a file that timm, this package or HF PEFT loads.
"""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.app import (
    DEFAULT_STORE,
    ExitCode,
    JsonOption,
    StoreOption,
    app,
    echo,
    echo_json,
    fail,
)
from results import exports

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from results.exports._runs import Run
    from results.store import Store


class Form(enum.StrEnum):
    """What `export-model` writes."""

    merged = "merged"
    adapter = "adapter"
    peft = "peft"


@app.command()
def export(
    suite: Annotated[str, typer.Argument(help="A suite's name.")],
    to: Annotated[str, typer.Option("--to", help=f"For what: {', '.join(exports.names())}.")],
    out: Annotated[Path, typer.Option("--out", help="A new or an empty folder.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Write a suite's runs, with settings, curves and scores, for another tool; sends nothing.

    For example: peftgrid export quickstart --to csv --out tables
    """
    from orchestrator import provenance
    from results.store import Store

    opened = Store.open(store.resolve())
    said = provenance.of_table(opened.path)
    written = exports.write(opened, suite, to, out, _progress, said)
    for path, reason in opened.bad_files:
        typer.echo(f"peftgrid: set aside {path}: {reason}", err=True)
    if as_json:
        echo_json(written)
        return
    counted = ", ".join(f"{n} {status}" for status, n in sorted(written["statuses"].items()))
    without = written["planned"] - written["runs"]
    echo(f"{out}: {written['runs']} runs of {suite} ({counted})")
    if without:
        echo(f"{without} of {written['planned']} planned runs have no result yet and are not in it")
    echo(f"open with: {exports.load(to).how_to_open(out.resolve())}")


def _progress(runs: Sequence[Run]) -> Iterable[Run]:
    """The runs; on a terminal with a bar on standard error."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(runs, "Exporting", console=console, disable=not console.is_terminal)


@app.command("export-model")
def export_model(
    run: Annotated[str, typer.Argument(help="A run_id, or enough of its beginning.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write; a folder for `peft`.")],
    form: Annotated[
        Form,
        typer.Option(
            "--form",
            help="`merged`: a plain timm checkpoint with the method in its weights. `adapter`: what "
            "was trained, for adapters.load. `peft`: a folder for peft.PeftModel.from_pretrained.",
        ),
    ] = Form.merged,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write the trained model of a run.

    For example: peftgrid export-model k3c2 --out model.safetensors
    """
    from results.models import model_of
    from results.store import Store

    opened = Store.open(store.resolve())
    row = _run(opened, run)
    if out.exists():
        fail(f"--out: {out} given, which exists; allowed: a new name", ExitCode.USAGE)
    with model_of(opened, row) as model:
        try:
            files = _files(form, model, row)
        except ValueError as error:
            fail(f"{row['run_id']}: {error}", ExitCode.USAGE)
        how = _how_to_load(form, out, row, model)
    if form is Form.peft:
        out.mkdir(parents=True)
        for name, data in files.items():
            (out / name).write_bytes(data)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(files["model"])
    echo(f"{out}: {row['variant']} on {row['backbone']}, trained on {row['dataset']}")
    echo(how)


def _files(form: Form, model: Path, row: dict[str, Any]) -> dict[str, bytes]:
    """Name -> content; ValueError where the method cannot be had in this form."""
    if form is Form.adapter:
        return {"model": model.read_bytes()}
    import adapters
    from adapters import backbones
    from adapters.hf_peft import hf_folder
    from adapters.saved import merged_bytes

    adapted = adapters.load(backbones.create(row["backbone"]), model)
    if form is Form.peft:
        return hf_folder(adapted.vit, adapted.method, adapted.active.config)
    try:
        return {"model": merged_bytes(adapted, f"run {row['run_id']}: {row['variant']}")}
    except ValueError as error:
        raise ValueError(f"{error}; export it with --form adapter") from error


def _how_to_load(form: Form, out: Path, row: dict[str, Any], model: Path) -> str:
    """The Python lines that load what was written."""
    from adapters import registry
    from adapters.saved import read_header

    classes = read_header(model).classes
    if row["backbone"] in registry.names("backbones"):
        vit = f"adapters.backbones.create({row['backbone']!r})"
        made = f"vit = {vit}; vit.reset_classifier({classes})"
    else:
        vit = f"timm.create_model({row['backbone']!r}, pretrained=True)"
        made = f"vit = timm.create_model({row['backbone']!r}, num_classes={classes})"
    quoted = json.dumps(str(out))
    match form:
        case Form.merged:
            return f"{made}\nvit.load_state_dict(safetensors.torch.load_file({quoted}))"
        case Form.adapter:
            return f"adapted = adapters.load({vit}, {quoted})"
        case Form.peft:
            made = made.replace("num_classes", "pretrained=True, num_classes")
            return f"{made}\nmodel = peft.PeftModel.from_pretrained(vit, {quoted})"


def _run(store: Store, run: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        row for row in store.runs().to_pylist() if row["run_id"].startswith(run)
    ]
    if len(rows) != 1:
        ids = " ".join(row["run_id"] for row in rows)
        found = f"{len(rows)} runs" if rows else "no run"
        fail(f"{found} in {store.path} begin with {run!r}: {ids}", ExitCode.USAGE)
    return rows[0]
