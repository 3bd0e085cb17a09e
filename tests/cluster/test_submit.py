"""A cluster of real Ray nodes as separate processes, used by clients that have nothing but peftgrid.

The store is a bucket of an S3 server of this machine, and at the end a folder. Each test goes on
where the one before it ended, as a user's day does: `make cluster` runs them in order.
"""

import json

import pytest

from results.store import Store
from tests.cluster.lab import RUNS, Client, Cluster, end_group, s3_server, until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def bucket():
    """A bucket that this process and all that it starts can reach by their environment."""
    with s3_server("127.0.0.1") as url:
        yield url


@pytest.fixture(scope="module")
def cluster(bucket, tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    made.add_node()
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(cluster, bucket, tmp_path_factory):
    return Client.install(tmp_path_factory.mktemp("client"), cluster.address, f"{bucket}/runs")


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
