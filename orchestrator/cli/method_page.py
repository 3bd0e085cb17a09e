"""One method on one page: `peftgrid methods NAME`, drawn from the method's own module."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from adapters import backbones as packaged
from adapters import describe, registry

_REFERENCE = "vit_base_patch16_224"
_WIDTH = 100


def page(name: str) -> dict[str, Any]:
    """What there is to know of a method, as JSON values; UnknownNameError for an unknown name."""
    module = registry.method(name)
    text = inspect.getdoc(module) or ""
    return {
        "method": name,
        "summary": text.partition("\n")[0],
        "family": module.FAMILY,
        "source": module.PAPER,
        "equal at start": module.IDENTITY_AT_START,
        "mergeable": "yes" if module.MERGEABLE else "no",
        "trains on ViT-B": module.count(module.Config(), packaged.describe(_REFERENCE).dims),
        "text": text,
        "settings": [
            {
                "name": setting.name,
                "type": setting.type,
                "default": setting.default,
                "meaning": setting.meaning,
                "allowed": setting.allowed,
            }
            for setting in describe.settings(module.Config)
        ],
        "example": _example(name, describe.plain(module.Config())),
    }


def show(found: dict[str, Any]) -> None:
    """Print what `page` gives, wrapped to the terminal; equations stay as they are."""
    console = Console(highlight=False)
    width = min(console.width, _WIDTH)

    def write(text: str = "") -> None:
        console.print(Text(text), soft_wrap=True)

    write(found["method"])
    write()
    write(_wrapped(found["text"], width))
    write()
    for key in ("family", "source", "equal at start", "mergeable"):
        write(f"{key:<16} {found[key] or 'none'}")
    write(
        f"{'trains on ViT-B':<16} {found['trains on ViT-B']:,} parameters by default, without the head"
    )
    write()
    if found["settings"]:
        with console.capture() as table:
            console.print(_table(found["settings"]), width=width)
        write("\n".join(line.rstrip() for line in table.get().splitlines()))
        write()
        write("In a suite, where what stays at its default may be left out:")
    else:
        write("It has no settings. In a suite:")
    write()
    write(example_block(found["example"], width))


def example_block(example: str, width: int) -> str:
    """The lines of a suite that name the method, broken after commas."""
    whole = example.replace(": ", ":\0")
    lines = textwrap.wrap(
        f"  - {whole}",
        width,
        subsequent_indent="     ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(["methods:", *lines]).replace("\0", " ")


def _table(settings: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("setting", no_wrap=True)
    table.add_column("type", max_width=24)
    table.add_column("default", no_wrap=True)
    table.add_column("meaning")
    for setting in settings:
        allowed = f" Allowed: {setting['allowed']}." if setting["allowed"] else ""
        cells = (
            setting["name"],
            setting["type"],
            _yaml(setting["default"]),
            setting["meaning"] + allowed,
        )
        table.add_row(*map(Text, cells))
    return table


def _example(name: str, settings: dict[str, Any]) -> str:
    """The method and its settings as one entry of a suite's `methods`, in YAML."""
    return _yaml({"name": name, **settings}) if settings else name


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    is_word = isinstance(value, str) and re.fullmatch(r"[a-z]\w*", value) is not None
    return value if is_word and value not in ("true", "false", "null") else json.dumps(value)


def _wrapped(text: str, width: int) -> str:
    """Paragraphs filled to `width`; those with an indented line are kept line by line."""
    kept = [
        part if re.search(r"^ ", part, re.MULTILINE) else textwrap.fill(part, width)
        for part in text.split("\n\n")
    ]
    return "\n\n".join(kept)
