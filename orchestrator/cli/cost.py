"""cost: what inference takes with each method, measured on this machine."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.app import ExitCode, JsonOption, app, echo, echo_json, fail

if TYPE_CHECKING:
    from suites.spec import RunSpec
    from suites.suite import Suite

_DEFAULT_SUITE, _DEFAULT_BACKBONE = "quickstart", "vit_small14_focus"
# The recipe is of no account here, but a schedule of some method may need that many epochs.
_METHODS = """\
schema: 1
suite: cost
backbone: {backbone}
methods: [{methods}]
datasets: [fashion_mnist]
train: {{epochs: 1000}}
"""


class Device(enum.StrEnum):
    """Where `cost` measures."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


@app.command()
def cost(
    suite: Annotated[
        str | None,
        typer.Argument(
            help=f"The variants of a suite, by file or name; `{_DEFAULT_SUITE}` by default."
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="Instead of a suite: a method as suites name it, e.g. `ia3`; repeatable.",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            help=f"Of the methods named; {_DEFAULT_BACKBONE} by default.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        Device, typer.Option("--device", help="`auto` takes a GPU where there is one.")
    ] = Device.auto,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images a pass.")] = 16,
    rounds: Annotated[int, typer.Option("--rounds", min=5, help="Timed passes a model.")] = 7,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Of the CPU; by default as many as a job has.")
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Measure what inference costs: GMACs and images a second of each variant, as it is and merged.

    For example: peftgrid cost --method ia3 --method '{name: lora, rank: [4, 16]}'
    """
    specs = _specs(suite, method or [], backbone)
    import torch

    has_cuda = torch.cuda.is_available()
    if device is Device.cuda and not has_cuda:
        fail("--device: cuda given, which torch does not see here; allowed: cpu", ExitCode.USAGE)
    where = torch.device("cuda" if has_cuda and device is not Device.cpu else "cpu")
    found = {
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "threads": threads,
        "batch_size": batch_size,
        "rounds": rounds,
        "precision": "fp32",
        "variants": list(_rows(specs, where, threads, batch_size, rounds)),
    }
    echo_json(found) if as_json else _show(found)


def _specs(suite: str | None, methods: list[str], backbone: str | None) -> list[RunSpec]:
    """One cell of each variant on each backbone, whose weights are here."""
    from adapters import backbones

    if suite is not None and methods:
        fail("--method: given beside a suite, allowed: one of them", ExitCode.USAGE)
    if backbone is not None and not methods:
        fail("--backbone: given without --method, allowed: both", ExitCode.USAGE)
    cells = _suite(suite, methods, backbone or _DEFAULT_BACKBONE).cells()
    firsts: dict[tuple[str, str], RunSpec] = {}
    for cell in cells:
        firsts.setdefault((cell.spec.backbone, cell.spec.variant_id), cell.spec)
    for name in {spec.backbone for spec in firsts.values()}:
        command = backbones.missing(name)
        if command is not None:
            fail(f"backbone {name} is not on this machine; get it with: {command}", ExitCode.USAGE)
    return list(firsts.values())


def _suite(suite: str | None, methods: list[str], backbone: str) -> Suite:
    from suites.load import load, loads

    if not methods:
        return load(suite or _DEFAULT_SUITE)
    text = _METHODS.format(backbone=backbone, methods=", ".join(methods))
    return loads(text, file="--method")


def _rows(
    specs: list[RunSpec], where: Any, threads: int, batch: int, rounds: int
) -> Iterator[dict[str, Any]]:
    import torch

    from adapters import registry
    from adapters.cost import inference_cost
    from adapters.warm import Warm

    warm, usual = Warm(where), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for spec in specs:
            classes = registry.classes(spec.dataset, spec.trial().dataset_config)
            measured = inference_cost(spec.trial(), classes, warm, batch=batch, rounds=rounds)
            yield {
                "backbone": spec.backbone,
                "variant": spec.variant,
                "variant_id": spec.variant_id,
                "classes": classes,
                **asdict(measured),
            }
    finally:
        torch.set_num_threads(usual)


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("backbone", no_wrap=True)
    table.add_column("variant", no_wrap=True)
    for name in (
        "trainable",
        "GMACs",
        "images/s",
        "of plain",
        "merged: GMACs",
        "images/s",
        "of plain",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found["variants"]:
        cells = (
            row["backbone"],
            row["variant"],
            f"{row['trainable_params']:,}",
            *_cells(row["unmerged"]),
            *_cells(row["merged"]),
        )
        table.add_row(*map(Text, cells))
    console = Console(highlight=False, width=200)
    with console.capture() as text:
        console.print(table)
    echo("\n".join(line.rstrip() for line in text.get().splitlines()))
    for row in found["variants"]:
        if row["not_merged"]:
            echo(f"{row['variant']} on {row['backbone']} is not merged: {row['not_merged']}")
    heads = sorted({row["classes"] for row in found["variants"]})
    echo(
        f"\n{found['device']}, CPU threads: {found['threads']}, {found['precision']}, batches of "
        f"{found['batch_size']}, median of {found['rounds']} passes taken in turn with the plain ViT "
        f"(of plain: its seconds divided by the variant's); head of {' or '.join(map(str, heads))} "
        "classes; GMACs of one image, matrix products and convolutions"
    )


def _cells(measured: dict[str, float] | None) -> tuple[str, str, str]:
    if measured is None:
        return ("-", "-", "-")
    return (
        f"{measured['gmacs']:.3f}",
        f"{measured['images_per_second']:.1f}",
        f"{measured['relative_speed']:.2f}",
    )
