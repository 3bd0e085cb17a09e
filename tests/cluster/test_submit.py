"""A cluster of real Ray nodes as separate processes, used by clients that have nothing but peftgrid.

The store is a bucket of an S3 server of this machine, and at the end a folder. Each test goes on
where the one before it ended, as a user's day does: `make cluster` runs them in order.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from results.folder import is_free
from results.place import place_of
from results.store import Store

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
PICKY = '''
"""LoRA that sleeps in every forward pass, and learns only where a file is."""

from pathlib import Path
from dataclasses import dataclass
import time
from adapters.methods import lora

FAMILY, PAPER, IDENTITY_AT_START, MERGEABLE, SEMANTICS = "test", "", "exact", False, 1
count = lora.count


@dataclass(frozen=True, kw_only=True)
class Config(lora.Config):
    """LoRA's settings."""

    seconds: float = 0.0
    """Slept in every forward pass."""
    file: str = ""
    """What has to be there."""


def attach(vit, config, generator):
    """Sleep before every forward pass."""
    if config.file and not Path(config.file).exists():
        raise ValueError(f"{config.file} is missing")
    vit.register_forward_pre_hook(lambda *_: time.sleep(config.seconds))
    return lora.attach(vit, config, generator)
'''
RUNS = 30
SUITE = """
schema: 1
suite: far
backbone: vit_tiny_fashion
datasets: [{{name: shapes_location, train: 48, val: 32, test: 48}}]
train: {{epochs: 3, batch_size: 12}}
grids:
  - {{methods: [{{name: picky, rank: 2, file: "{file}"}}], seeds: 1}}
  - {{methods: [{{name: picky, rank: 2, seconds: 0.2}}], seeds: {seeds}}}
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Cluster:
    """A head without CPUs, and nodes of one CPU each."""

    def __init__(self, folder):
        self.folder, self.port, self.nodes = folder, free_port(), []
        dashboard = free_port()
        self.address = f"http://127.0.0.1:{dashboard}"
        self._temp = Path("/tmp") / f"pgc-{os.getpid()}"  # names of sockets must stay short
        self._start(
            *("--head", "--port", self.port, "--num-cpus", 0, "--temp-dir", self._temp),
            *("--include-dashboard", "true", "--dashboard-port", dashboard),
        )

    def add_node(self):
        self.nodes.append(self._start("--address", f"127.0.0.1:{self.port}", "--num-cpus", 1))

    def _start(self, *words):
        """`ray start` in the foreground, in a process group of its own."""
        out = (self.folder / f"ray-{len(self.nodes)}-{time.monotonic_ns()}.log").open("w")
        process = subprocess.Popen(
            [
                *(RAY, "start", *map(str, words), "--block", "--disable-usage-stats"),
                *("--object-store-memory", str(2**27)),
                *("--dashboard-agent-listen-port", str(free_port())),
            ],
            # What is submitted must bring its own code: the folder has none, and no path leads to it.
            cwd=self.folder,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
            | QUIET
            | {"PATH": f"{RAY.parent}:{os.environ['PATH']}"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        out.close()
        if "--head" in words:
            self.head = process
        return process

    def close(self):
        for process in (*self.nodes, self.head):
            end_group(process)
        shutil.rmtree(self._temp, ignore_errors=True)


def end_group(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def bucket():
    """A bucket that this process and all that it starts can reach by their environment."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.session.Session().client("s3").create_bucket(Bucket="lab")
        yield "s3://lab"
    server.stop()


@pytest.fixture(scope="module")
def cluster(bucket, tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    made.add_node()
    yield made
    made.close()


class Client:
    """The installed wheel in an environment of its own folder, and the commands of one user."""

    def __init__(self, folder, site, address, store):
        self.folder, self.site, self.address, self.store = folder, site, address, store
        self.mended = folder / "mended"
        (folder / "lab" / "methods").mkdir(parents=True)
        (folder / "lab" / "methods" / "picky.py").write_text(PICKY)
        (folder / "far.yaml").write_text(SUITE.format(file=self.mended, seeds=RUNS - 1))
        near = SUITE.format(file="", seeds=2).replace("suite: far", "suite: near")
        (folder / "near.yaml").write_text(near)

    def start(self, *words, address=True):
        where = ["--address", self.address] if address else []
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *map(str, words), *where],
            cwd=self.folder,
            env=os.environ
            | QUIET
            | {"PYTHONPATH": str(self.site), "PEFTGRID_PLUGINS": str(self.folder / "lab")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words, timeout=240, **options):
        process = self.start(*words, **options)
        out, _ = process.communicate(timeout=timeout)
        return process.returncode, out

    def submit(self, *more):
        return ("submit", "far.yaml", "--store", self.store, *more)

    def attempts(self):
        free = is_free(place_of(self.store))
        return [] if free else Store.open(self.store).attempts().to_pylist()


@pytest.fixture(scope="module")
def client(cluster, bucket, tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    install = [*pip, "install", "--no-deps", "--target", folder / "site", wheel]
    subprocess.run(install, check=True, capture_output=True)
    made = Client(folder, folder / "site", cluster.address, f"{bucket}/runs")
    until(lambda: made.run("status", "--store", "/nowhere")[0] == 2, 90)  # the head answers
    return made


def until(holds, seconds=120):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.5)


def test_a_client_that_is_killed_and_started_again_attaches_to_its_submission(client):
    first = client.start(*client.submit())
    until(lambda: any(row["status"] == "succeeded" for row in client.attempts()))
    first.kill()
    out, _ = first.communicate()
    (name,) = [line.split()[-1] for line in out.splitlines() if "submitted as" in line]
    code, out = client.run(*client.submit("--detach"))
    assert code == 0, out
    assert f"{name} is live, attached to it" in out
    assert out.splitlines()[-1] == name


def test_a_node_that_is_added_is_used_and_one_that_is_lost_is_no_loss(client, cluster):
    (only,) = {row["node"] for row in client.attempts()}
    cluster.add_node()
    until(lambda: len({row["node"] for row in client.attempts() if row["node"]}) > 1)
    end_group(cluster.nodes.pop(0))
    code, out = client.run("watch", "far")
    assert code == 3, out
    statuses = [row["status"] for row in Store.open(client.store).runs().to_pylist()]
    assert sorted(statuses) == ["failed", *["succeeded"] * (RUNS - 1)], (
        "the run without its file failed"
    )
    assert {row["node"] for row in client.attempts()} > {only}


def test_status_and_logs_are_read_where_the_store_is(client):
    code, out = client.run("status", "far", "--store", client.store, "--json")
    counts = {"runs": RUNS, "succeeded": RUNS - 1, "failed": 1}
    assert (code, json.loads(out)) == (0, [{"suite": "far", **counts}])
    (failed,) = [row["run_id"] for row in client.attempts() if row["failure_kind"] == "user_error"]
    code, out = client.run("logs", failed, "--store", client.store)
    assert code == 0, out
    assert f"failed: ValueError: {client.mended} is missing" in out


def test_the_same_submission_again_starts_nothing(client):
    code, out = client.run(*client.submit())
    assert code == 3, "as before: one run is failed"
    assert "far: 0 runs started" in out
    assert len({row["run_id"] for row in client.attempts()}) == RUNS


def test_once_the_cause_is_mended_a_second_driver_starts_just_the_failed_run(client):
    client.mended.touch()
    before = len(client.attempts())
    code, out = client.run("resume", "far.yaml", "--store", client.store)
    assert code == 0, out
    assert "far: 1 runs started, 1 succeeded, 0 failed, 0 left" in out
    assert len(client.attempts()) == before + 1
    rows = Store.open(client.store).runs().to_pylist()
    assert {row["status"] for row in rows} == {"succeeded"}
    assert all(dict(row["versions"])["plugins"] for row in rows), "by whose code it was"


def test_a_suite_that_runs_is_stopped_and_what_is_not_there_is_told(client):
    longer = client.submit("--set", "suite=longer", "--set", "train.epochs=500", "--detach")
    assert client.run(*longer)[0] == 0
    until(
        lambda: (
            "1 running" in client.run("status", "longer", "--store", client.store, address=False)[1]
        )
    )
    code, out = client.run("stop", "longer", "--store", client.store)
    assert code == 0, out
    assert "its driver has ended" in out
    _, out = client.run("status", "longer", "--store", client.store, address=False)
    assert "stopped" in out
    code, out = client.run("stop", "longer", "--store", client.store)
    assert code == 2
    assert "nothing to stop" in out


def test_a_folder_that_all_nodes_see_is_a_store_likewise(client):
    folder = client.folder / "store"
    code, out = client.run("submit", "near.yaml", "--store", folder)
    assert code == 0, out
    assert "near: 3 runs started, 3 succeeded, 0 failed, 0 left" in out
    code, out = client.run("doctor", "--store", folder)
    assert (code, out.count("yes")) == (0, 4), out


def test_a_bucket_that_cannot_be_reached_ends_the_driver_with_six(client):
    code, out = client.run("submit", "near.yaml", "--store", "s3://another/runs")
    assert code == 6, out
    assert "s3://another/runs cannot be reached (NoSuchBucket" in out


def test_doctor_compares_the_versions_of_both_sides(client):
    code, out = client.run("doctor")
    assert code == 0, out
    assert "ray" in out
