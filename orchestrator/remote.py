"""A cluster by the address of its head: suites submitted to it, and commands that are run there.

Through Ray's Jobs API, which is HTTP: what is here needs no Ray on this machine but its client. The
driver of a suite is the entrypoint of a submission, on the head, beside the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.cluster import ClusterError
from orchestrator.parcel import pack
from suites.suite import Suite

T = TypeVar("T")

LIVE = ("PENDING", "RUNNING")
PATIENCE_SECONDS = 60.0
"""How long a head that answered before may be silent while it is followed."""
_BEGIN = "peftgrid-output-begins"


@dataclass(frozen=True)
class Submission:
    """A suite that was submitted."""

    id: str
    """`<suite>-<digest8>-<n>`."""
    status: str
    """As Ray has it: PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED."""

    @property
    def is_live(self) -> bool:
        """Whether its driver runs or is about to."""
        return self.status in LIVE


def digest_of(suite: Suite, store: str) -> str:
    """What makes two submissions the same one: what the suite says, and where its results go."""
    return hashlib.sha256(f"{suite.digest}\0{store}".encode()).hexdigest()[:8]


def next_id(suite: str, digest: str, known: Sequence[Submission]) -> tuple[str, bool]:
    """The id to submit under, and whether that is a live submission to be attached to instead."""
    mine = {}
    for each in known:
        found = re.fullmatch(rf"{re.escape(suite)}-{digest}-(\d+)", each.id)
        if found:
            mine[int(found[1])] = each
    newest = max(mine, default=0)
    if mine and mine[newest].is_live:
        return mine[newest].id, True
    return f"{suite}-{digest}-{newest + 1}", False


class Head:
    """The Jobs API of one cluster. Raises ClusterError wherever it cannot be reached or says no."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client = self._asked(lambda: _client(address))

    def ray_version(self) -> str:
        """The cluster's."""
        # `get_version` tells that of the API.
        return str(self._client._server_ray_version)  # noqa: SLF001 - there is no public name

    def submissions(self) -> list[Submission]:
        """All that the head remembers, whoever submitted them."""
        return [
            Submission(job.submission_id, str(job.status.value))
            for job in self._asked(self._client.list_jobs)
            if job.submission_id
        ]

    def submit(
        self,
        submission: str,
        words: Sequence[str],
        *,
        suite: Suite | None = None,
        variables: Mapping[str, str] | None = None,
        marked: bool = False,
    ) -> None:
        """Run `peftgrid WORDS` on the head, under the id `submission`, with this machine's peftgrid.

        `variables` are set in its environment. `marked` has it tell where its own output begins.
        """
        assigned = [f"{name}={shlex.quote(value)}" for name, value in (variables or {}).items()]
        command = shlex.join(["python", "-m", "orchestrator.cli", *words])
        entrypoint = " ".join([*([f"echo {_BEGIN};"] if marked else ()), *assigned, command])
        with tempfile.TemporaryDirectory(prefix="peftgrid-") as folder:
            pack(Path(folder), suite)
            self._asked(
                lambda: self._client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=submission,
                    runtime_env={"working_dir": folder},
                    metadata={"peftgrid": suite.name if suite else " ".join(words[:1])},
                )
            )

    def follow(
        self, submission: str, write: Callable[[str], object], *, marked: bool = False
    ) -> int:
        """Give `write` what the driver prints, from its beginning, until it ends; its exit code."""
        import aiohttp

        said = _Said(write, marked)
        silent_since: float | None = None
        while True:
            try:
                asyncio.run(self._tail(submission, said))
                info = self._asked(lambda: self._client.get_job_info(submission))
            except (ClusterError, OSError, RuntimeError, aiohttp.ClientError) as error:
                now = time.monotonic()
                silent_since = silent_since or now
                if now - silent_since > PATIENCE_SECONDS:
                    raise ClusterError(f"{self._address} answers no more: {error}") from error
                time.sleep(1.0)
                continue
            silent_since = None
            if info.status.is_terminal():
                break
            time.sleep(0.5)
        said.all(self._asked(lambda: self._client.get_job_logs(submission)))
        if info.driver_exit_code is None or info.driver_exit_code < 0:
            raise ClusterError(f"{submission}: {info.status.value.lower()} ({info.message})")
        return int(info.driver_exit_code)

    def call(self, words: Sequence[str], write: Callable[[str], object]) -> int:
        """Run `peftgrid WORDS` on the head to its end; its output and its exit code. Leaves no trace."""
        submission = f"peftgrid-{words[0]}-{secrets.token_hex(4)}"
        self.submit(submission, words, marked=True)
        try:
            return self.follow(submission, write, marked=True)
        finally:
            self._asked(lambda: self._client.stop_job(submission))
            self._asked(lambda: self._client.delete_job(submission))

    async def _tail(self, submission: str, said: _Said) -> None:
        said.again()
        async for chunk in self._client.tail_job_logs(submission):
            said.more(chunk)

    def _asked(self, ask: Callable[[], T]) -> T:
        """The answer to a request. ClusterError says what went wrong."""
        from ray.exceptions import AuthenticationError

        try:
            return ask()
        except AuthenticationError as error:
            raise ClusterError(f"{self._address} does not take the token: {error}") from error
        except (OSError, RuntimeError, ValueError) as error:
            raise ClusterError(f"{self._address}: {error}") from error


class _Said:
    """What a driver printed so far, so that reading it again from the beginning repeats nothing."""

    def __init__(self, write: Callable[[str], object], marked: bool) -> None:
        self._write, self._told, self._text = write, 0, ""
        self._mark = f"{_BEGIN}\n" if marked else ""

    def again(self) -> None:
        """What follows begins anew."""
        self._text = ""

    def more(self, chunk: str) -> None:
        """The next part."""
        self.all(self._text + chunk)

    def all(self, text: str) -> None:
        """Everything so far."""
        self._text = text
        _, found, own = text.partition(self._mark) if self._mark else ("", "-", text)
        if self._mark:  # Ray's own line may come after what the entrypoint prints first
            own = re.sub(r"^Running entrypoint for job .*\n", "", own)
        if found and len(own) > self._told:
            self._write(own[self._told :])
            self._told = len(own)


def _client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(address)
    # It tells of packages that it uploads and of sockets that it closes.
    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private"):
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
    return client
