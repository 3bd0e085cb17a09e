"""A cluster of real Ray nodes, each a process of its own, and clients that have nothing but peftgrid."""

import contextlib
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

from results import s3
from results.folder import is_free
from results.place import place_of
from results.store import Store

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
WATCHFUL = {"RAY_health_check_timeout_ms": "5000", "RAY_health_check_failure_threshold": "3"}
"""That a node does not answer is known a minute earlier than by Ray's defaults."""
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

    def __init__(self, folder, host="127.0.0.1"):
        """The head is at the address `host` of this machine."""
        self.folder, self.port, self.nodes = folder, free_port(), []
        self._host = host
        dashboard = free_port()
        self.address = f"http://127.0.0.1:{dashboard}"
        self._temp = Path("/tmp") / f"pgc-{os.getpid()}"  # names of sockets must stay short
        self._start(
            *("--head", "--port", self.port, "--num-cpus", 0, "--temp-dir", self._temp),
            *("--node-ip-address", host),
            *("--include-dashboard", "true", "--dashboard-port", dashboard),
        )

    def add_node(self, ip="127.0.0.1", within=()):
        """A node with the address `ip`, started by the command `within`."""
        at = ("--address", f"{self._host}:{self.port}", "--node-ip-address", ip)
        self.nodes.append(self._start(*at, "--num-cpus", 1, within=within))
        # Nodes of one folder that start at once may take the same names for their sockets.
        until(lambda: "Ray runtime started" in self.log.read_text(), 60)

    def _start(self, *words, within=()):
        """`ray start` in the foreground, in a process group of its own."""
        self.log = self.folder / f"ray-{len(self.nodes)}-{time.monotonic_ns()}.log"
        out = self.log.open("w")
        process = subprocess.Popen(
            [
                *(*within, RAY, "start", *map(str, words), "--block", "--disable-usage-stats"),
                *("--object-store-memory", str(2**27)),
                *("--dashboard-agent-listen-port", str(free_port())),
            ],
            # What is submitted must bring its own code: the folder has none, and no path leads to it.
            cwd=self.folder,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
            | QUIET
            | WATCHFUL
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
        processes = (*self.nodes, self.head)
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
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

    @classmethod
    def install(cls, folder, address, store):
        """One with a wheel made of this tree, as soon as the head answers."""
        wheels = folder / "wheels"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
        build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT]
        subprocess.run(build, check=True, capture_output=True)
        (wheel,) = wheels.glob("*.whl")
        install = [*pip, "install", "--no-deps", "--target", folder / "site", wheel]
        subprocess.run(install, check=True, capture_output=True)
        made = cls(folder, folder / "site", address, store)
        until(lambda: made.run("status", "--store", "/nowhere")[0] == 2, 90)
        return made

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


def until(holds, seconds=120):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.5)


@contextlib.contextmanager
def s3_server(host):
    """The URL of a bucket on a server at `host`, told to this process and all that it starts."""
    server = ThreadedMotoServer(ip_address=host, port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.session.Session().client("s3").create_bucket(Bucket="lab")
        s3._made_client.cache_clear()  # of a server before this one
        yield "s3://lab"
    server.stop()
