"""Nodes in network namespaces of their own, as machines of a network are: one is cut off from the others.

Needs the right to make namespaces (root, on Linux, with `ip`); skips with the reason elsewhere.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from results.store import Store
from tests.cluster.lab import SUITE, Client, Cluster, s3_server, until

pytestmark = pytest.mark.cluster
NAME = f"pg{os.getpid() % 100_000}"
HEAD, NODES = "10.231.7.1", ("10.231.7.2", "10.231.7.3")
ANSWERS = "import socket; socket.create_connection(('{}', {}), 5)"


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def within(number):
    """The command that starts another in the namespace of a node."""
    return ("ip", "netns", "exec", f"{NAME}n{number}")


@pytest.fixture(scope="module")
def network():
    """A bridge with the head's address, and a namespace behind it for each node."""
    if shutil.which("ip") is None:
        pytest.skip("no `ip` to make network namespaces with")
    try:
        ip("link", "add", NAME, "type", "bridge")
        ip("addr", "add", f"{HEAD}/24", "dev", NAME)
        ip("link", "set", NAME, "up")
        for number, address in enumerate(NODES):
            space, outer, inner = f"{NAME}n{number}", f"{NAME}o{number}", f"{NAME}i{number}"
            ip("netns", "add", space)
            ip("link", "add", outer, "type", "veth", "peer", "name", inner)
            ip("link", "set", outer, "master", NAME, "up")
            ip("link", "set", inner, "netns", space)
            ip("-n", space, "addr", "add", f"{address}/24", "dev", inner)
            ip("-n", space, "link", "set", inner, "up")
            ip("-n", space, "link", "set", "lo", "up")
        yield
    except OSError as error:
        pytest.skip(f"no network namespaces here: {error}")
    finally:
        for number in range(len(NODES)):
            subprocess.run(["ip", "netns", "del", f"{NAME}n{number}"], capture_output=True)
        subprocess.run(["ip", "link", "del", NAME], capture_output=True)


@pytest.fixture(scope="module")
def client(network, tmp_path_factory):
    with s3_server(HEAD) as bucket:
        port = os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]
        asks = [*within(0), sys.executable, "-c", ANSWERS.format(HEAD, port)]
        if subprocess.run(asks, capture_output=True).returncode:
            pytest.skip("a network namespace does not reach this machine")
        cluster = Cluster(tmp_path_factory.mktemp("namespaces"), HEAD)
        try:
            for number, address in enumerate(NODES):
                cluster.add_node(address, within(number))
            folder = tmp_path_factory.mktemp("client")
            yield Client.install(folder, cluster.address, f"{bucket}/spaces")
        finally:
            for process in cluster.nodes:  # one that is cut off would try to say goodbye
                os.killpg(process.pid, signal.SIGKILL)
            cluster.close()


def test_what_a_node_had_that_the_network_lost_is_done_on_another(client):
    suite = SUITE.format(file="", seeds=3).replace("epochs: 3", "epochs: 8")
    (client.folder / "wide.yaml").write_text(suite)
    driver = client.start("submit", "wide.yaml", "--store", client.store)
    until(lambda: len({row["node"] for row in client.attempts() if row["node"]}) == 2)
    ip("link", "set", f"{NAME}o1", "down")
    cut = time.time()
    out, _ = driver.communicate(timeout=240)
    assert driver.returncode == 0, out
    rows = Store.open(client.store).runs().to_pylist()
    assert {row["status"] for row in rows} == {"succeeded"}
    lost = [row for row in client.attempts() if row["status"] == "failed"]
    assert [row["failure_kind"] for row in lost] == ["worker_lost"], out
    assert lost[0]["ended_at"].timestamp() > cut
