"""The parts of a suite that say how it is run: read strictly, and never part of a run's identity."""

import dataclasses

import pytest

from suites.load import SuiteError, loads
from suites.schema import Keep, Retry

SUITE = """\
schema: 1
suite: running
backbone: vit_tiny_fashion
methods: [linear, {name: lora, rank: 2}]
datasets: [digits]
seeds: 2
"""
ALL = """\
resources: {gpus: 0.5, cpus: 2, memory: 4GiB}
execution: {time_limit: 1h30m, stall_after: 90s, checkpoint_every_epochs: 3, max_parallel: 1}
retry: {preempted: 7, worker_lost: 0, launch: 1, stalled: unlimited, timeout: 1, out_of_memory: 6,
        storage: 9, unknown: 1}
store: {models: all, predictions: none}
"""


def test_the_defaults():
    suite = loads(SUITE)
    assert suite.retry == Retry(
        preempted="unlimited",
        worker_lost=3,
        launch=3,
        stalled=2,
        timeout=0,
        out_of_memory=2,
        storage=5,
        unknown=0,
    )
    assert suite.execution.time_limit_seconds is None
    assert suite.execution.stall_after_seconds == 300
    assert suite.execution.checkpoint_every_epochs == 1
    assert suite.resources.memory_bytes is None
    assert suite.keep == Keep(models="final", predictions="small")


def test_what_is_given_is_carried():
    suite = loads(SUITE + ALL)
    assert suite.retry == Retry(
        preempted=7,
        worker_lost=0,
        launch=1,
        stalled="unlimited",
        timeout=1,
        out_of_memory=6,
        storage=9,
        unknown=1,
    )
    assert suite.execution.time_limit_seconds == 5400
    assert suite.execution.stall_after_seconds == 90
    assert suite.execution.checkpoint_every_epochs == 3
    assert suite.resources.memory_bytes == 4 * 2**30
    assert suite.keep == Keep(models="all", predictions="none")


def test_plain_numbers_and_never():
    more = """\
resources: {memory: 2000000}
execution: {time_limit: 1, stall_after: 2.5, checkpoint_every_epochs: never}
"""
    suite = loads(SUITE + more)
    assert suite.resources.memory_bytes == 2_000_000
    assert suite.execution.time_limit_seconds == 1
    assert suite.execution.stall_after_seconds == 2.5
    assert suite.execution.checkpoint_every_epochs == "never"


def test_no_limit_can_be_said():
    suite = loads(SUITE + ALL, overrides=["execution.time_limit=null", "resources.memory=null"])
    assert suite.execution.time_limit_seconds is None
    assert suite.resources.memory_bytes is None


def test_how_a_suite_is_run_is_no_part_of_a_run_s_identity():
    plain, full = (
        [cell.spec.run_id for cell in loads(text).cells()] for text in (SUITE, SUITE + ALL)
    )
    assert plain == full


BUDGET = "allowed: unlimited or a whole number"


@pytest.mark.parametrize(
    ("line", "column", "path", "words"),
    [
        ("retry: {worker_list: 3}", 9, "retry.worker_list", "Did you mean 'worker_lost'?"),
        ("retry: {non_finite: 3}", 9, "retry.non_finite", "unknown key"),
        ("retry: 3", 8, "retry", "a mapping of preempted, worker_lost"),
        ("retry: {storage: -1}", 18, "retry.storage", "-1 given, allowed: a finite number of at least 0"),
        ("retry: {storage: 1.5}", 18, "retry.storage", f"1.5 given, {BUDGET}"),
        ("retry: {storage: true}", 18, "retry.storage", f"true given, {BUDGET}"),
        ("retry: {storage: null}", 18, "retry.storage", f"null given, {BUDGET}"),
        ("retry: {storage: [1, 2]}", 9, "retry.storage", f"[1, 2] given, {BUDGET}"),
        ("retry: {storage: unlimitd}", 18, "retry.storage", "Did you mean 'unlimited'?"),
        ("execution: {time_limit: 5x}", 25, "execution.time_limit", "'5x' given, allowed: a duration"),
        ("execution: {time_limit: '30'}", 25, "execution.time_limit", "'30' given, allowed: a duration"),
        ("execution: {time_limit: 0.5}", 25, "execution.time_limit", "0.5 given, allowed: at least one"),
        ("execution: {time_limit: true}", 25, "execution.time_limit", "true given"),
        ("execution: {micro_batch: 0}", 26, "execution.micro_batch", "0 given, allowed: a finite number"),
        ("execution: {stall_after: 0s}", 26, "execution.stall_after", "'0s' given, allowed: at least one"),
        ("execution: {stall_after: never}", 26, "execution.stall_after", "'never' given, allowed: a dur"),
        ("execution: {stall_after: null}", 26, "execution.stall_after", "null given"),
        (
            "execution: {checkpoint_every_epochs: 0}",
            38, "execution.checkpoint_every_epochs", "0 given, allowed: a finite number of at least 1",
        ),
        (
            "execution: {checkpoint_every_epochs: 0.5}",
            38, "execution.checkpoint_every_epochs", "0.5 given, allowed: never or a whole number",
        ),
        ("resources: {memory: 4G}", 21, "resources.memory", "'4G' given, allowed: bytes, or an amount"),
        ("resources: {memory: 4}", 21, "resources.memory", "4 given, allowed: at least 1MiB"),
        ("resources: {memory: 1.5}", 21, "resources.memory", "1.5 given"),
        ("store: {models: best}", 17, "store.models", "'best' given, allowed: final or all or none"),
        ("store: {predictions: big}", 22, "store.predictions", "'big' given, allowed: small or all or"),
        ("store: {model: final}", 9, "store.model", "Did you mean 'models'?"),
        ("stores: {models: final}", 1, "stores", "Did you mean 'store'?"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_place(line, column, path, words):
    with pytest.raises(SuiteError) as caught:
        loads(f"{SUITE}{line}\n", file="my.yaml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.path) == (7, column, path)
    assert words in problem.message


def test_mistakes_in_several_parts_come_at_once():
    more = "resources: {memory: x}\nexecution: {stall_after: x}\nretry: {launch: x}\nstore: {models: x}\n"
    with pytest.raises(SuiteError) as caught:
        loads(SUITE + more)
    assert [problem.line for problem in caught.value.problems] == [7, 8, 9, 10]


def test_every_kind_of_retry_is_a_number_or_unlimited():
    for item in dataclasses.fields(Retry):
        with pytest.raises(ValueError, match=f"^{item.name}: -1 given"):
            Retry(**{item.name: -1})
        assert getattr(Retry(**{item.name: "unlimited"}), item.name) == "unlimited"
