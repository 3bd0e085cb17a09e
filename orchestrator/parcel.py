"""What travels to a cluster: our four packages, the suite, a lab's own files. Nothing heavy or secret.

The parcel is a folder that Ray copies to each node once, by its content, and puts before everything
else on Python's path, so every worker runs the code of whoever submitted. torch, timm, Ray and pyarrow
are the cluster's own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from adapters import plugins
from orchestrator import packages, provenance
from suites.suite import Suite

SUITE_FILE = "suite.yaml"


def pack(folder: Path, suite: Suite | None) -> None:
    """Fill the empty `folder`; plugins that are in use are put among our own files."""
    home = Path(__file__).resolve().parent.parent
    for room in packages.ROOMS:
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(home / room, folder / room, ignore=without)
    version = packages.version()
    # By this folder Python knows our version there, as it does where peftgrid is installed.
    info = folder / f"peftgrid-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: peftgrid\nVersion: {version}\n")
    source = provenance.of_source()
    own = plugins.folder()
    if own is not None:
        source["plugins"] = plugins.digest(own)
        for file in plugins.files(own):
            shutil.copy(file, folder / "adapters" / file.parent.name)
    (folder / provenance.SENT).write_text(json.dumps(source))
    if suite is not None:
        (folder / SUITE_FILE).write_text(suite.text)
