"""`peftgrid serve`: what it answers, what it refuses, that it follows the store and ends when told."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from orchestrator import server
from results.record import Attempt, PlanRow
from results.store import Store
from tests.served import served

SPEC = {"suite": "demo", "suite_digest": "0123456789abcdef", "stage": "single"}


def row(number):
    return PlanRow(
        **SPEC,
        position=number,
        run_id=f"run-{number}",
        config_id="c",
        variant="linear",
        backbone="vit",
        dataset="mnist",
        seed=number,
        spec="{}",
    )


def success(number, score=0.5):
    return Attempt(
        run_id=f"run-{number}",
        attempt=1,
        status="succeeded",
        variant="linear",
        backbone="vit",
        dataset="mnist",
        seed=number,
        metrics={"test/top1": score},
    )


@pytest.fixture
def store(tmp_path):
    made = Store.open(tmp_path / "store", create=True)
    made.save_plan("demo", SPEC["suite_digest"], "question: why?\n", [row(0), row(1)])
    made.commit(success(0))
    return made


@pytest.fixture
def start(store):
    """Start a server over the store; gives `ask(path, method, **headers)`."""
    with contextlib.ExitStack() as stack:

        def begin(suite=None):
            url = stack.enter_context(served(store, suite))
            port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", url)[1])

            def ask(path, method="GET", **headers):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                connection.request(method, path, headers=named)
                answer = connection.getresponse()
                body = answer.read().decode()
                connection.close()
                return answer, body

            return ask

        yield begin


def test_the_report_and_its_data(start):
    ask = start()
    answer, body = ask("/suite/demo")
    assert answer.status == 200
    assert 'data-poll="/suite/demo/data"' in body
    answer, body = ask("/suite/demo/data")
    assert json.loads(body)["counts"] == {"succeeded": 1, "queued": 1}
    assert answer.headers["Content-Type"].startswith("application/json")


def test_the_suites_are_listed_and_the_only_one_is_led_to(start):
    _, body = start()("/")
    assert '<a href="/suite/demo">demo</a>' in body
    answer, _ = start("demo")("/")
    assert (answer.status, answer.headers["Location"]) == (302, "/suite/demo")


def test_it_follows_a_commit(start, store):
    ask = start("demo")
    answer, _ = ask("/suite/demo/data")
    tag = answer.headers["ETag"]
    answer, body = ask("/suite/demo/data", If_None_Match=tag)
    assert (answer.status, body) == (304, "")
    store.commit(success(1, 0.7))
    answer, body = ask("/suite/demo/data", If_None_Match=tag)
    assert answer.status == 200
    assert answer.headers["ETag"] != tag
    assert json.loads(body)["counts"] == {"succeeded": 2}
    assert json.loads(body)["board"]["rows"][0][1].startswith("0.6000")


def test_it_is_not_made_again_while_nothing_changes(start, monkeypatch):
    ask = start("demo")
    ask("/suite/demo")
    monkeypatch.setattr(server.data, "read", None)
    assert ask("/suite/demo/data")[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_only_get_is_answered(start, method):
    answer, _ = start()("/suite/demo", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example"])
def test_a_foreign_host_is_refused(start, host):
    answer, body = start()("/suite/demo", Host=host)
    assert answer.status in (400, 403)
    assert "linear" not in body


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:80", "LOCALHOST"])
def test_its_own_names_are_answered(start, host):
    assert start()("/suite/demo", Host=host)[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/x", "/suite/other", "/suite/other/data", "/suite/..%2f..%2fstore.json", "/store.json"),
        *("/suite/demo/../../store.json", "/suite/%2e%2e/data", "/suite/", "//etc/passwd"),
    ],
)
def test_an_unknown_path_is_not_found(start, path):
    answer, body = start()(path)
    assert answer.status == 404
    assert "format" not in body


@pytest.mark.parametrize("path", ["/", "/suite/demo", "/suite/demo/data", "/nowhere"])
def test_every_answer_is_hardened(start, path):
    headers = start()(path)[0].headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Server"] == "peftgrid"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "Access-Control-Allow-Origin" not in headers


def test_the_policy_lets_the_page_ask_its_own_server_alone(start):
    policy = start()("/suite/demo")[0].headers["Content-Security-Policy"]
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


def test_a_store_that_cannot_be_read_is_said(start, store, monkeypatch):
    ask = start("demo")

    def broken(*_, **__):
        raise server.StoreError("the disk is away")

    monkeypatch.setattr(server.data, "read", broken)
    answer, body = ask("/suite/demo")
    assert (answer.status, body) == (503, "the disk is away\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_its_address_and_ends_when_told(store, number):
    command = "from orchestrator.cli import main; main()"
    words = [sys.executable, "-c", command, "serve", "demo", "--store", str(store.path)]
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as process:
        try:
            assert re.match(r"http://127\.0\.0\.1:\d+/ \(Ctrl-C", process.stdout.readline())
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "ended\n", "")


def test_an_address_that_is_taken_is_said(store, monkeypatch, capsys):
    import socket

    from orchestrator.cli import main

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ["peftgrid", "serve", "demo", "--store", str(store.path), "--port", port]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit, match="2"):
            main()
    assert "cannot be bound" in " ".join(capsys.readouterr().err.split())
