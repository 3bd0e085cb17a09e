"""The command `text-head`: a classification head from class names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.app import ExitCode, app, echo, fail


@app.command("text-head")
def text_head(
    names: Annotated[
        str,
        typer.Argument(help="A file with a class name on each line, or `imagenet`."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The safetensors file to write.")],
    templates: Annotated[
        str,
        typer.Option(
            "--templates",
            help="`openai` (80 sentences), or a file with one on each line, {} for the name.",
        ),
    ] = "openai",
    model: Annotated[
        str, typer.Option("--model", help="As open_clip names it.")
    ] = "ViT-B-16-quickgelu",
    pretrained: Annotated[str, typer.Option("--pretrained", help="Its weights.")] = "openai",
) -> None:
    """Make a CLIP head of class names, for `train: {text_head: ...}`; needs open_clip and its weights.

    The embeddings are in the order of the names, which has to be that of the data set's labels.
    """
    from adapters import clip_text

    try:
        chosen = clip_text.imagenet_names() if names == "imagenet" else _lines(Path(names))
        sentences = (
            clip_text.openai_templates()
            if templates == "openai"
            else clip_text.templates_of(_lines(Path(templates)))
        )
        with typer.progressbar(length=len(chosen), label="encoding") as bar:
            tensors = clip_text.embeddings(
                chosen, sentences, model, pretrained, lambda: bar.update(1)
            )
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        fail(str(error), ExitCode.USAGE)
    digest = clip_text.write(tensors, out)
    classes, dim = tensors["weight"].shape
    echo(f"{out}: {classes} classes, {len(sentences)} sentences for each, {dim} numbers")
    echo("put it below the data root, and into the suite:")
    echo(f"  train: {{text_head: {{file: {out.name}, dim: {dim}, digest: {digest}}}}}")


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    found = [line for line in lines if line]
    if not found:
        raise ValueError(f"{path}: no line given, allowed: at least one")
    return found
