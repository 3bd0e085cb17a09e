"""The pictures of the report in docs/: `make screenshots` after `make quickstart`.

`python -m tests.browser.pictures STORE SUITE OUT` takes them of any suite, in a headless Chromium.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator import provenance
from results.report import data, page
from results.store import Store

WIDTH, HEIGHT = 1100, 760
"""Pixels of every picture."""


@contextlib.contextmanager
def chromium(driver: Any) -> Iterator[Any]:
    """A headless browser of Playwright's `driver`: the system's Chromium, else Playwright's own."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with driver.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def take(browser: Any, html: Path, out: Path) -> list[Path]:
    """PNG files of the report in `html`, in the folder `out`: by day, by night, and one run."""
    taken = []
    for name, scheme, of_a_run in (
        ("report", "light", False),
        ("report-dark", "dark", False),
        ("report-run", "light", True),
    ):
        size = {"width": WIDTH, "height": HEIGHT}
        opened = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        opened.goto(html.as_uri())
        if of_a_run:
            opened.locator("#runs-body tbody th a").first.click()
            opened.locator("#run").wait_for()
        path = out / f"{name}.png"
        opened.screenshot(path=path)
        opened.close()
        taken.append(path)
    return taken


def main() -> int:
    """Take the pictures of a suite."""
    from playwright import sync_api

    store, suite, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    report = data.read(Store.open(store), suite, provenance=provenance.of_table(store.resolve()))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium(sync_api) as browser:
        html = Path(folder) / "report.html"
        html.write_text(page.html(report))
        for path in take(browser, html, out):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
