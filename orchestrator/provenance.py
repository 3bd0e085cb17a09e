"""Which source, packages and device a run, or a table, came from."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

from adapters import plugins
from results.place import Place

SENT = "peftgrid-source.json"
"""Lies beside the packages of a program that was sent to a cluster."""


def of_source() -> dict[str, Any]:
    """`git_commit` and `git_dirty` of the checkout this program runs from; None where it is none.

    Of a program that was sent to a cluster: those of the checkout that it was sent from.
    """
    told = _sent()
    if told is not None:
        return {name: told[name] for name in ("git_commit", "git_dirty")}
    home = Path(__file__).resolve().parent.parent
    if not (home / ".git").exists():
        return {"git_commit": None, "git_dirty": None}
    commit = _git(home, "rev-parse", "HEAD")
    status = _git(home, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit or None, "git_dirty": None if status is None else bool(status)}


def of_table(store: Place) -> dict[str, str]:
    """Where a table comes from: store and its generation, this program's version, its commit if known."""
    from results import generations

    newest = next(iter(generations.numbers(store)), 0)
    said = {"store": store.name, "generation": str(newest)}
    said["peftgrid"] = importlib.metadata.version("peftgrid")
    source = of_source()
    if source["git_commit"]:
        said["commit"] = source["git_commit"][:12] + (
            " with changes" if source["git_dirty"] else ""
        )
    return said


def of_device(device: Any) -> str:
    """The column `device` for a torch.device: its type, and the GPU's or CPU's name."""
    import torch

    is_cuda = device.type == "cuda"
    return f"{device.type}:{torch.cuda.get_device_name(device) if is_cuda else _cpu_name()}"


def of_packages() -> dict[str, str]:
    """The versions of what the numbers of a run depend on."""
    import numpy as np
    import timm
    import torch

    own = _plugins()

    return {
        "peftgrid": importlib.metadata.version("peftgrid"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "numpy": np.__version__,
        **({"plugins": own} if own else {}),
    }


def _sent() -> dict[str, Any] | None:
    """What was known of this program where it was sent from; None where it was not sent."""
    path = Path(__file__).resolve().parent.parent / SENT
    return json.loads(path.read_bytes()) if path.exists() else None


def _plugins() -> str | None:
    """The digest of a lab's own files, wherever they are used from."""
    sent, own = _sent(), plugins.folder()
    if sent is not None:
        return sent.get("plugins")
    return plugins.digest(own) if own is not None else None


def _cpu_name() -> str:
    """The processor's model name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(home: Path, *args: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            ["git", "-C", str(home), *args],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
