"""Submissions through a head that is only played: their names, what is followed, what goes wrong."""

import socket
import time
from types import SimpleNamespace

import pytest

from orchestrator import remote
from orchestrator.cluster import ClusterError
from orchestrator.remote import Head, Submission, digest_of, next_id


def known(**statuses):
    return [Submission(name.replace("_", "-"), status) for name, status in statuses.items()]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({}, ("s-12345678-1", False)),
        ({"s_12345678_1": "PENDING"}, ("s-12345678-1", True)),
        ({"s_12345678_1": "RUNNING"}, ("s-12345678-1", True)),
        ({"s_12345678_1": "FAILED"}, ("s-12345678-2", False)),
        ({"s_12345678_9": "STOPPED", "s_12345678_10": "SUCCEEDED"}, ("s-12345678-11", False)),
        ({"s_12345678_1": "FAILED", "s_12345678_2": "RUNNING"}, ("s-12345678-2", True)),
        ({"s_87654321_1": "RUNNING", "other_12345678_1": "RUNNING"}, ("s-12345678-1", False)),
    ],
)
def test_a_live_submission_is_attached_to_and_an_ended_one_followed_by_the_next(statuses, expected):
    assert next_id("s", "12345678", known(**statuses)) == expected


def test_another_store_or_another_text_is_another_submission(make_suite):
    suite, other = make_suite("s"), make_suite("s", seeds=3)
    digests = {digest_of(suite, "/a"), digest_of(suite, "/b"), digest_of(other, "/a")}
    assert len(digests) == 3
    assert all(len(digest) == 8 for digest in digests)
    assert digest_of(suite, "/a") == digest_of(make_suite("s"), "/a")


class Played:
    """A client of the Jobs API whose submission prints `parts`; the connection breaks between them."""

    def __init__(self, *parts, code=0):
        self.parts, self.code, self.tails = parts, code, 0

    async def tail_job_logs(self, name):
        self.tails += 1
        for part in self.parts[: self.tails]:
            yield part
        if self.tails < len(self.parts):
            raise RuntimeError("the connection was closed")

    def get_job_info(self, name):
        ended = SimpleNamespace(is_terminal=lambda: True, value="FAILED")
        return SimpleNamespace(status=ended, driver_exit_code=self.code, message="said why")

    def get_job_logs(self, name):
        return "".join(self.parts)


@pytest.fixture
def follow(monkeypatch):
    def call(client, **options):
        monkeypatch.setattr(remote, "_client", lambda address: client)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        written = []
        return Head("http://head").follow("s-12345678-1", written.append, **options), written

    return call


def test_a_broken_connection_is_made_anew_and_nothing_is_said_twice(follow):
    assert follow(Played("one\n", "two\n", "three\n")) == (0, ["one\n", "two\n", "three\n"])


@pytest.mark.parametrize("code", [0, 3, 4, 130])
def test_the_exit_code_is_the_drivers_own(follow, code):
    assert follow(Played("done\n", code=code))[0] == code


def test_a_driver_that_never_ran_is_an_error_with_its_message(follow):
    with pytest.raises(ClusterError, match="said why"):
        follow(Played("no environment\n", code=None))


def test_of_a_command_run_there_only_its_own_output_is_told(follow):
    lines = (
        "Runtime env is setting up.\n",
        "peftgrid-output-begins\n",
        "Running entrypoint for job x: echo peftgrid-output-begins; python -m ...\nits own\n",
    )
    assert "".join(follow(Played("".join(lines)), marked=True)[1]) == "its own\n"


def test_a_head_that_stays_silent_is_an_error(follow, monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE_SECONDS", -1.0)
    with pytest.raises(ClusterError, match="answers no more"):
        follow(Played("one\n", "two\n"))


@pytest.fixture
def dead_address():
    """Where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "smoke", "--store", "/s"),
        ("resume", "smoke", "--store", "/s"),
        ("status", "--store", "/s"),
        ("logs", "abc", "--store", "/s"),
        ("stop", "smoke", "--store", "/s"),
        ("watch", "smoke"),
    ],
    ids=lambda words: words[0],
)
def test_an_address_that_does_not_answer_is_told_in_seconds(peftgrid, dead_address, words):
    began = time.monotonic()
    code, _, err = peftgrid(*words, "--address", dead_address)
    assert code == 6
    assert dead_address in err
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("submit", "smoke", "--store", "/s", "--address", "head:6379"), "http://HEAD:8265"),
        (("submit", "smoke", "--store", "runs", "--address", "http://h"), "an absolute path"),
        (("run", "smoke", "--address", "http://h"), "peftgrid submit"),
        (("submit", "no-such", "--store", "/s", "--address", "http://h"), "no-such"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(peftgrid, words, said):
    code, _, err = peftgrid(*words)
    assert code == 2
    assert said in err
