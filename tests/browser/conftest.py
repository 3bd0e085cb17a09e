"""A headless Chromium for the tests of this folder, which skip where there is none."""

import contextlib

import pytest
from playwright import sync_api

from tests.browser import pictures


# Not for the session: while Playwright runs, its event loop stands in the way of other tests' own.
@pytest.fixture(scope="module")
def chromium():
    """The browser that also takes the pictures of the docs."""
    with contextlib.ExitStack() as stack:
        try:
            browser = stack.enter_context(pictures.chromium(sync_api))
        except sync_api.Error as error:
            pytest.skip(f"no Chromium starts here: {str(error).splitlines()[0]}")
        yield browser


@pytest.fixture
def page(chromium):
    """A page that fails the test where something is logged as an error, or asked for off the page."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.errors, opened.requests = [], []
    opened.on("console", lambda m: opened.errors.append(m.text) if m.type == "error" else None)
    opened.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.on("dialog", lambda dialog: (opened.errors.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda request: opened.requests.append(request.url))
    yield opened
    assert opened.errors == []
    context.close()
