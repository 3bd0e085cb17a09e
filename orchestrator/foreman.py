"""The foreman of one drive: keeps jobs staffed, takes in what happened, decides about what was lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, TypeVar

from orchestrator import failures, live, nodes
from orchestrator.capacity import Capacity
from orchestrator.dispatch import Event, News, Work
from orchestrator.ending import Ending
from orchestrator.jobs import Jobs
from orchestrator.ledger import Ledger
from orchestrator.outcome import Outcome, View
from orchestrator.patience import patiently
from orchestrator.silence import Silence
from orchestrator.staff import Staff
from results.lease import Lease, Observer
from results.schema import FailureKind
from suites.suite import Suite

T = TypeVar("T")

POLL_SECONDS = 0.2
LOOK_SECONDS = 2.0
"""Between two looks at nodes, and at runs that another driver has in hand."""
COMMITS = 64
"""Between two questions whether the tables are to be compacted."""
MAX_DEATHS = 3
"""Jobs that may end one after another without a finished run, per job that runs at a time."""


class Foreman:
    """One suite being driven. The driver calls `execute` for each round of runs."""

    def __init__(
        self,
        suite: Suite,
        jobs: Jobs,
        dispatcher: Any,
        ledger: Ledger,
        lease: Lease,
        view: View,
        *,
        capacity: Callable[[], Capacity],
        most: int | None,
        began: float,
    ) -> None:
        """`capacity` tells what the cluster has at that moment; `most` jobs at most live at once."""
        self.outcome = Outcome()
        self.ending = Ending(self.outcome, view)
        self._suite, self.jobs, self._dispatcher = suite, jobs, dispatcher
        self._ledger, self._lease, self._view = ledger, lease, view
        ledger.give_up = lambda: self.outcome.stopping
        self._capacity, self._began = capacity, began
        self._staff = Staff(suite, jobs, self.call, view, capacity=capacity(), most=most)
        self._work: dict[str, Work] = {}
        self._left: set[str] = set()
        self._later: list[tuple[float, Work]] = []
        """Runs that are tried again, not before a moment of the monotonic clock."""
        self._others: dict[str, Observer] = {}
        """Runs that another driver has in hand, with an observer of its lease."""
        self._looked, self._seen = 0.0, 0
        self._generation: str | None = None
        self._ended: set[str] = set()  # jobs whose end has been taken in
        self._deaths = 0
        self._commits = 0  # since it was asked whether the tables are to be compacted
        self._silence = Silence(suite.execution.stall_after_seconds, view.note)

    def execute(self, works: list[Work]) -> None:
        """Return when all of them have ended, or a signal or a problem ends the drive."""
        self._work |= {work.spec.run_id: work for work in works}
        self._left = {work.spec.run_id for work in works}
        self._staff.queue(works)
        asked_to_stop = False
        while self._left:
            # Asked before the poll: what a job told before it ended is then known after it.
            alive = self.jobs.alive()
            news = self._poll()
            self._take_ended(alive, news)
            self._take_due()
            self._look_around(news)
            self._silence.end(news)
            if self._lease.lost:
                self.outcome.problem = "another driver took over this suite"
            self._hear()
            if self.outcome.stopping:
                if not asked_to_stop:
                    self.call("stop")
                    asked_to_stop = True
                busy = any(state.current for state in news.jobs.values())
                if not busy or self.ending.is_due:
                    self._close_open_claims()
                    return
            elif self._deaths > MAX_DEATHS * self._staff.most_alive:
                self.outcome.problem = self.jobs.why_ended()
            elif self.outcome.problem is None:
                self._staff.fill(news)
            if self.outcome.problem is not None:
                return
            time.sleep(POLL_SECONDS)

    def call(self, verb: str, *args: Any, **options: Any) -> Any:
        """Ask the dispatcher."""
        import ray

        return ray.get(getattr(self._dispatcher, verb).remote(*args, **options))

    def patiently(self, write: Callable[[], T]) -> T:
        """Do it once the storage takes it, unless a signal came."""
        return patiently(write, self._view.note, give_up=self._ledger.give_up)

    # --- taking in -----------------------------------------------------------------------------

    def _poll(self) -> News:
        news: News = self.call("poll", self._seen)
        if self._generation not in (None, news.generation):
            self._view.note("the dispatcher died and was started again")
            self._refill()
            self._seen, self._generation = 0, news.generation
            news = self.call("poll", 0)
        self._seen, self._generation = news.total, news.generation
        for event in news.events:
            self._take(event)
        now = live.of_drive(self.outcome, self._left, self._began, news.jobs, self._work)
        self._view.update(now)
        self._lease.say(asdict(now))
        return news

    def _hear(self) -> None:
        """What `peftgrid stop` asked for."""
        self.ending.hear(self._lease.asked)
        for run_id in self._left & self.ending.unwanted:
            self._view.note(f"{run_id}: stopping it, as it was asked for")
            self._left.discard(run_id)
            self._later = [each for each in self._later if each[1].spec.run_id != run_id]
            self.call("stop_run", run_id)

    def _take(self, event: Event) -> None:
        outcome, run_id = self.outcome, event.run_id or ""
        if event.kind == "training" and outcome.seconds_to_first_step is None:
            outcome.seconds_to_first_step = time.monotonic() - self._began
        outcome.started += event.kind == "started"
        if event.kind == "waiting":
            self._view.note(f"{event.job}: {event.detail['why']}")
        if event.kind == "broken":
            outcome.problem = str(event.detail["error"])
        if event.kind == "launched":
            self._take_lost(event.job, event.detail["lost"], event.detail)
        if event.kind == "elsewhere" and run_id in self._left:
            self._others[run_id] = Observer(self._ledger.store, str(event.detail.get("lease", "")))
        if event.kind == "finished" and run_id in self._left:
            self._deaths = 0
            self._commits += 1
            self._take_finished(run_id, event)
        work = self._work.get(run_id)
        self._view.event(event, work.spec if work else None)

    def _take_finished(self, run_id: str, event: Event) -> None:
        match event.status:
            case "succeeded":
                self._left.discard(run_id)
                self.outcome.succeeded += 1
            case "failed":
                detail = event.detail
                self._decide(run_id, detail["attempt"], detail["kind"], str(detail["error"]))
            case "superseded":
                self._view.note(f"{run_id}: a result came late, its attempt was closed before")
                self._look_up([run_id])
            case _:  # stopped: it stays among what is left
                pass

    def _decide(self, run_id: str, attempt: int, kind: FailureKind, error: str) -> None:
        """Try a failed run again, now or later, or count it as failed."""
        decision, work = self._ledger.ended(self._work[run_id], attempt, kind)
        self._view.note(f"{run_id}: {decision.reason}")
        if work is None:
            self._left.discard(run_id)
            self.outcome.failed += 1
            self.outcome.failures.append((run_id, error))
            return
        self._work[run_id] = work
        self._later.append((time.monotonic() + decision.wait_seconds, work))

    def _take_due(self) -> None:
        now = time.monotonic()
        due = [work for moment, work in self._later if moment <= now]
        self._later = [(moment, work) for moment, work in self._later if moment > now]
        if due and not self.outcome.stopping:
            self._staff.queue(due, first=True)

    def _take_ended(self, alive: set[str], news: News) -> None:
        """Jobs that are gone, with whatever they had in hand."""
        for name in self.jobs.started - alive - self._ended:
            self._ended.add(name)
            self._deaths += 1
            current = news.jobs[name].current if name in news.jobs else None
            self._take_lost(name, current, {"steps": 1})
            self.jobs.release(name)

    def _take_lost(self, job: str, current: str | None, seen: dict[str, Any]) -> None:
        """What a job had in hand before its process `pid` (none: before it ended) is lost.

        `seen` holds beside `pid` the `steps` that were made, and how many `workers` there are now.
        """
        live = seen.get("pid")
        claims = {
            run_id: claim
            for run_id, claim in self._ledger.store.open_claims().items()
            if run_id in self._left
            and self._ledger.is_ours(claim)
            and claim.get("job") == job
            and claim.get("pid") != live
        }
        for run_id, claim in claims.items():
            self._close_lost(run_id, claim, seen)
        waiting = {work.spec.run_id for _, work in self._later}
        rest = {current, *(self._staff.runs_of(job) if live is None else ())}
        self._look_up(run for run in rest if run in self._left - claims.keys() - waiting)

    def _close_lost(self, run_id: str, claim: dict[str, Any], seen: dict[str, Any]) -> None:
        """A row for an attempt whose process is gone, and whether it is tried again."""
        spec, attempt, pid = self._work[run_id].spec, int(claim["attempt"]), int(claim["pid"])
        said = (nodes.death(claim["actor"]), self.jobs.error_of(claim["job"]))
        log = self._ledger.log(claim)
        kind, evidence = failures.of_loss(
            log,
            [each for each in said if each],
            killed=self._silence.why(claim["node"], pid),
            began=bool(seen["steps"]),
            workers=(claim.get("workers"), seen.get("workers")),
        )
        error = f"process {pid} on {claim['hostname']} ended without a result"
        if kind == "stalled":
            error = f"no progress for {self._suite.execution.stall_after_seconds:g} s"
        if self._ledger.close(spec, claim, "failed", kind=kind, error=error, evidence=evidence):
            self._decide(run_id, attempt, kind, error)
        else:
            self._look_up([run_id])

    def _look_up(self, runs: Iterable[str]) -> None:
        """Runs that nobody has in hand: done after all, or to be queued."""
        runs = list(runs)
        if not runs:
            return
        states, again = self._ledger.store.states(), []
        for run_id in runs:
            state = states.get(run_id)
            if state is not None and state.status == "succeeded":
                self._left.discard(run_id)
                self.outcome.succeeded += 1
            else:
                again.append(self._work[run_id])
        if again and not self.outcome.stopping:
            self._staff.queue(again, first=True)

    def _refill(self) -> None:
        """Tell a new dispatcher what the old one knew; jobs tell it themselves what they do."""
        claims = self._ledger.store.open_claims()
        in_hand = {
            run_id for run_id in self._left & claims.keys() if self._ledger.is_ours(claims[run_id])
        }
        waiting = {work.spec.run_id for _, work in self._later} | self._others.keys() | in_hand
        for name in self.jobs.alive():
            works = self._staff.works_of(name)
            rest = [work for work in works if work.spec.run_id in self._left - waiting]
            held = sum(work.spec.run_id in in_hand for work in works)
            if works:
                self.call("assign", name, rest, in_hand=held)
        self._look_up(self._left - waiting - self._staff.apart())

    # --- others, the end --------------------------------------------------------------

    def _look_around(self, news: News) -> None:
        """What no event tells: nodes that are gone, and what became of other drivers' runs."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if self._commits >= COMMITS:
            self._commits = 0
            self._ledger.compact()
        self._staff.capacity = self._capacity()
        nodes.free_places()
        alive = nodes.living()
        for name, state in news.jobs.items():
            if state.current and state.process and state.process.node not in alive:
                # Its job comes back only where there is room; its run need not wait for that.
                lost, steps = self.call("gone", name)
                self._take_lost(name, lost, {"pid": -1, "steps": steps})
        self._take_others()

    def _take_others(self) -> None:
        """Runs that another driver began: done by now, or to be done here after all."""
        for run_id, observer in list(self._others.items()):
            claim = self._ledger.open(run_id)
            if claim is not None and not self._ledger.is_ours(claim) and observer.alive():
                continue
            del self._others[run_id]
            if claim is not None and not observer.alive():
                spec = self._work[run_id].spec
                error = "its driver is gone"
                self._ledger.close(spec, claim, "stopped", error=error)
            self._look_up([run_id])

    def _close_open_claims(self) -> None:
        for run_id in self._left:
            claim = self._ledger.open(run_id)
            if claim is not None and self._ledger.is_ours(claim):
                self._ledger.close(self._work[run_id].spec, claim, "stopped")
