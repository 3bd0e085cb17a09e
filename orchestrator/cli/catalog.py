"""Commands about what there is to compare: methods, backbones, suites; and doctor."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from orchestrator.cli.app import ExitCode, JsonOption, app, echo, echo_json, fail, show
from orchestrator.cli.plan_text import counted_params
from orchestrator.cli.submit import HeadOption, output_of, relay
from results.place import Place, place_of


@app.command()
def methods(
    name: Annotated[
        str | None,
        typer.Argument(help="One of them: its equation, its settings, how a suite names it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The fine-tuning methods that suites may name, with what they train on a ViT-B/16 by default."""
    from adapters import backbones as packaged
    from adapters import registry

    if name is not None:
        from orchestrator.cli import method_page

        found = method_page.page(name)
        echo_json(found) if as_json else method_page.show(found)
        return
    dims = packaged.describe("vit_base_patch16_224").dims
    rows = []
    for name in registry.names("methods"):
        module = registry.method(name)
        config = module.Config()
        is_exact = registry.count_is_exact(name, config)
        rows.append(
            {
                "method": name,
                "family": module.FAMILY,
                "trains on ViT-B": counted_params(module.count(config, dims), is_exact),
                "mergeable": "yes" if module.MERGEABLE else "no",
                "equal at start": module.IDENTITY_AT_START,
                "source": module.PAPER,
            }
        )
    show(rows, as_json)


@app.command()
def backbones(
    fetch: Annotated[
        str | None,
        typer.Option(
            "--fetch", help="Download the weights of this timm model into the hub's cache."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The packaged backbones. Any other timm ViT may be named too; fetch its weights first."""
    from adapters import backbones as packaged
    from adapters import registry

    if fetch is not None:
        try:
            packaged.fetch(fetch)
        except registry.UnknownNameError:
            raise
        except ValueError as error:
            fail(str(error), ExitCode.UNREACHABLE)
        echo(f"{fetch}: its weights are on this machine")
        return
    rows = []
    for name in registry.names("backbones"):
        info = packaged.describe(name)
        rows.append(
            {
                "backbone": name,
                "parameters": f"{info.dims.params:,}",
                "pixels": str(info.dims.image_size),
                "here": _here(packaged.missing(name)),
                "weights": info.description,
            }
        )
    show(rows, as_json)


@app.command()
def suites(as_json: JsonOption = False) -> None:
    """The shipped suites, with the question that each answers."""
    from suites import catalog
    from suites.load import load

    rows = [{"suite": name, "question": load(name).question or ""} for name in catalog.names()]
    show(rows, as_json)


@app.command()
def doctor(
    address: HeadOption = None,
    store: Annotated[
        Place | None,
        typer.Option(
            "--store",
            parser=place_of,
            metavar="PLACE",
            help="Try whether a store would be safe in this folder or bucket.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that the packages Python finds are peftgrid's own, and say which versions are in use.

    With `--address`, beside those of the cluster: its Ray, torch, timm and pyarrow are what a suite
    that is submitted there runs on. With `--store` a folder is tried instead, on the cluster where one
    is named; exit 2 where a store would not be safe in it.
    """
    from orchestrator import packages

    if store is not None:
        if address is not None:
            relay(address, "doctor", "--json" if as_json else None, store=store)
        _try_folder(store, as_json)
        return
    packages.check()
    places, versions = packages.found(), _versions()
    if address is not None:
        there = json.loads(output_of(address, "doctor", "--json"))["versions"]
        rows = [
            {
                "package": name,
                "here": here,
                "cluster": there.get(name, "-"),
                "": "" if there.get(name) == here else "differs",
            }
            for name, here in versions.items()
        ]
        show(rows, as_json)
    elif as_json:
        echo_json({"packages": places, "versions": versions, "decoded": _decoded_images()})
    else:
        for name, said in (*places.items(), *versions.items()):
            echo(f"{name:<14} {said}")
        cache = _decoded_images()
        taken, most = (cache[name] / 1e9 for name in ("bytes", "limit"))
        echo(f"{'decoded images':<14} {cache['folder']} ({taken:.1f} GB, at most {most:.0f} GB)")


def _try_folder(folder: Place, as_json: bool) -> None:
    from results.probe import probe

    found = probe(folder)
    if as_json:
        echo_json([{"needs": each.what, "problem": each.problem} for each in found])
    for each in [] if as_json else found:
        echo(
            f"{'NO ' if each.problem else 'yes'}  {each.what}"
            + (f": {each.problem}" if each.problem else "")
        )
    if any(each.problem for each in found):
        fail(f"{folder}: a store would not be safe here; choose another folder", ExitCode.USAGE)


def _decoded_images() -> dict[str, Any]:
    """Where this machine keeps them, and how much they take and may take."""
    from adapters.backbones._cache import cache_dir
    from adapters.data import _room

    folder = cache_dir() / "decoded"
    try:
        taken, most = _room.state(folder)
    except (OSError, ValueError) as error:
        fail(str(error), ExitCode.USAGE)
    return {"folder": str(folder), "bytes": taken, "limit": most}


def _versions() -> dict[str, str]:
    import importlib.metadata
    import platform

    named = ("peftgrid", "ray", "torch", "torchvision", "timm", "pyarrow", "duckdb", "numpy")
    found = {name: importlib.metadata.version(name) for name in named}
    return {"python": platform.python_version(), **found}


def _here(missing: str | None) -> str:
    return "yes" if missing is None else f"no: {missing}"
