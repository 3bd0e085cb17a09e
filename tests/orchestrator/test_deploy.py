"""The files of docs/deploy, as far as they can be tested without the machines that they are for."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
SCHEMA = ROOT.parent / "shared" / "data" / "kuberay-rayjob-v1.schema.json"


def read(name):
    return YAML(typ="safe").load(DEPLOY / name)


def test_the_rayjob_is_one_by_its_published_schema():
    jsonschema = pytest.importorskip("jsonschema")
    if not SCHEMA.exists():
        pytest.skip("the published schema of RayJob is not on this machine")
    schema = json.loads(SCHEMA.read_text())
    job = read("kuberay-rayjob.yaml")
    jsonschema.validate(job, schema)
    _knows_all(job["spec"], schema["properties"]["spec"], "spec")


def _knows_all(given, schema, place):
    """The schema lets keys pass that it does not name: an operator would ignore them."""
    if isinstance(given, dict) and "properties" in schema:
        for key, value in given.items():
            assert key in schema["properties"], f"{place}.{key}"
            _knows_all(value, schema["properties"][key], f"{place}.{key}")
    if isinstance(given, list) and "items" in schema:
        for at, value in enumerate(given):
            _knows_all(value, schema["items"], f"{place}[{at}]")


def test_the_rayjob_leaves_retries_to_peftgrid_and_has_shared_memory_and_time_to_end():
    spec = read("kuberay-rayjob.yaml")["spec"]
    assert spec["backoffLimit"] == 0
    cluster = spec["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] >= 60
        mounted = {
            mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]
        }
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes[mounted["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
        assert "persistentVolumeClaim" in volumes[mounted["/results"]]


def test_the_head_of_the_launchers_cluster_runs_no_job_and_faces_no_internet():
    cluster = read("ray-cluster.yaml")
    assert cluster["available_node_types"][cluster["head_node_type"]]["resources"] == {"CPU": 0}
    assert cluster["provider"]["use_internal_ips"]


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("code", [0, 3])
def test_the_slurm_script_starts_a_head_the_other_nodes_and_the_driver(tmp_path, nodes, code):
    bash = shutil.which("bash") or pytest.skip("there is no bash")
    log = tmp_path / "calls"
    for name, does in {
        "scontrol": "printf 'node%d\\n' $(seq 1 $SLURM_JOB_NUM_NODES)",
        "srun": 'case "$*" in *hostname*) echo 10.0.0.1 fe80::1;; *) sleep 0.1;; esac',
        "sleep": ":",
        "peftgrid": f"exit {code}",
    }.items():
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n{does}\n')
        script.chmod(0o755)
    variables = {"SLURM_JOB_NODELIST": "node[1-9]", "SLURM_JOB_NUM_NODES": str(nodes)}
    done = subprocess.run(
        [bash, DEPLOY / "slurm.sh", "suite.yaml", "/shared/store"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **variables},
        timeout=30,
    )
    assert done.returncode == code, "the driver's own"
    calls = log.read_text()
    assert "srun --nodes=1 --ntasks=1 --nodelist=node1 ray start --head" in calls
    assert (f"--nodes={nodes - 1}" in calls) == (nodes > 1)
    assert "peftgrid run suite.yaml --store /shared/store --address 10.0.0.1:6379" in calls
