"""One Ray for all tests of the session, and small suites on the packaged tiny ViT."""

import textwrap

import pytest

from suites.load import loads


@pytest.fixture(scope="session")
def ray_cluster():
    """An embedded Ray of two CPUs; drives in the same process use it and leave it running."""
    from orchestrator import cluster

    with cluster.running(None, cpus=2, threads=1) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def _no_token_file_and_no_network():
    """A local Ray would write a token into the home directory; no test may ask a hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


SUITE = """
schema: 1
suite: {name}
backbone: vit_tiny_fashion
methods: {methods}
datasets:
  - {{name: shapes_location, train: 48, val: 32, test: 48}}
seeds: {seeds}
train: {{epochs: 2, batch_size: 24{train}}}
"""


@pytest.fixture(scope="session")
def make_suite():
    """A suite of a second or two: `make_suite("name", methods="[linear]", seeds=2, train=", lr: 1")`."""

    def make(
        name, *, methods="[linear, {name: lora, rank: 2}]", seeds=1, train=", lr: 1e-2", more=""
    ):
        text = SUITE.format(name=name, methods=methods, seeds=seeds, train=train)
        return loads(text + textwrap.dedent(more))

    return make
