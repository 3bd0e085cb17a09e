"""Trying again: a pure decision from what was seen of a run and the suite's policy."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.retry import LONGEST_WAIT, Ended, decide
from results.schema import FAILURE_KINDS
from suites.schema import Retry

DEFAULT = Retry()
FINAL = ("data", "non_finite", "user_error")
RETRIED = tuple(kind for kind in FAILURE_KINDS if kind not in FINAL)


def ended(kind, *, checkpointed=False, batch=64, micro=None, memory=None):
    return Ended(
        kind=kind,
        checkpointed=checkpointed,
        effective_batch=batch,
        micro_batch=micro,
        memory_bytes=memory,
    )


def entry(kind):
    """The policy's entry of a kind."""
    return "out_of_memory" if kind.startswith("out_of_memory") else kind


def driven(kinds, policy, *, batch=64, memory=None):
    """What a driver does while attempts fail with these kinds, none with a checkpoint: its decisions."""
    history, decisions, micro, factor = [], [], None, 1
    for kind in kinds:
        asked = None if memory is None else memory * factor
        history.append(ended(kind, batch=batch, micro=micro, memory=asked))
        decisions.append(decide(tuple(history), policy))
        if not decisions[-1].again:
            break
        micro, factor = decisions[-1].micro_batch, decisions[-1].memory_factor
    return decisions


policies = st.builds(
    Retry,
    **{item.name: st.integers(0, 4) | st.just("unlimited") for item in dataclasses.fields(Retry)},
)
histories = st.lists(
    st.builds(
        Ended,
        kind=st.sampled_from(FAILURE_KINDS),
        checkpointed=st.booleans(),
        effective_batch=st.just(64),
        micro_batch=st.sampled_from([None, 1, 2, 32]),
        memory_bytes=st.sampled_from([None, 2**30]),
    ),
    min_size=1,
    max_size=12,
)


def test_every_kind_has_a_budget_or_is_final():
    names = {item.name for item in dataclasses.fields(Retry)}
    assert {entry(kind) for kind in RETRIED} == names


@pytest.mark.parametrize("kind", FINAL)
def test_what_would_fail_again_is_final(kind):
    decision = decide([ended(kind)], DEFAULT)
    assert not decision.again
    assert decision.reason == (
        f"{kind} has no budget, as the same run would fail again: not tried again"
    )


@pytest.mark.parametrize(
    ("kind", "budget"),
    [
        ("worker_lost", 3),
        ("launch", 3),
        ("stalled", 2),
        ("timeout", 0),
        ("storage", 5),
        ("unknown", 0),
        ("out_of_memory_device", 2),
        ("out_of_memory_host", 1),
    ],
)
def test_the_default_budgets_without_progress(kind, budget):
    decisions = driven([kind] * 20, DEFAULT)
    assert [d.again for d in decisions] == [True] * budget + [False]


def test_preemption_is_free_without_a_wait_and_from_the_checkpoint():
    decision = decide([ended("preempted")] * 100, DEFAULT)
    assert (decision.again, decision.resume, decision.wait_seconds) == (True, True, 0)
    assert "unlimited" in decision.reason


def test_preemption_has_a_budget_where_the_policy_gives_one():
    assert [d.again for d in driven(["preempted"] * 9, Retry(preempted=2))] == [True, True, False]


@pytest.mark.parametrize("kind", ["worker_lost", "launch", "storage"])
def test_the_wait_doubles_up_to_a_minute(kind):
    decisions = driven([kind] * 9, Retry(**{kind: "unlimited"}))
    assert [d.wait_seconds for d in decisions] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_hundred_losses_do_not_overflow_the_wait():
    decision = decide([ended("worker_lost")] * 5000, Retry(worker_lost="unlimited"))
    assert decision.wait_seconds == LONGEST_WAIT


def test_a_loss_after_a_new_checkpoint_is_not_counted():
    lost, progressed = ended("worker_lost"), ended("worker_lost", checkpointed=True)
    decision = decide([lost, lost, lost, progressed], DEFAULT)
    assert (decision.again, decision.wait_seconds) == (True, 1)
    assert decision.reason == (
        "worker_lost after a new checkpoint, not counted (at most 3 without a new checkpoint in "
        "between): tried again from its checkpoint after 1 s"
    )
    assert decide([progressed] * 50, DEFAULT).again


def test_a_checkpoint_starts_the_count_of_losses_anew():
    lost, progressed = ended("worker_lost"), ended("worker_lost", checkpointed=True)
    assert decide([lost, lost, lost, progressed, lost, lost, lost], DEFAULT).again
    assert not decide([progressed, lost, lost, lost, lost], DEFAULT).again


def test_progress_of_an_attempt_that_ended_otherwise_counts_too():
    lost = ended("worker_lost")
    preempted = ended("preempted", checkpointed=True)
    assert decide([lost, lost, lost, preempted, lost], DEFAULT).wait_seconds == 1
    assert not decide([lost, lost, lost, ended("preempted"), lost], DEFAULT).again


def test_stalls_count_even_with_progress():
    stalled = ended("stalled", checkpointed=True)
    assert [decide([stalled] * n, DEFAULT).again for n in (1, 2, 3)] == [True, True, False]


def test_a_budget_of_zero_is_never_even_after_progress():
    decision = decide([ended("worker_lost", checkpointed=True)], Retry(worker_lost=0))
    assert not decision.again
    assert decision.reason == "worker_lost, no retries allowed: not tried again"


def test_kinds_do_not_draw_on_each_others_budgets():
    kinds = ["worker_lost", "stalled", "launch", "storage"] * 2
    assert all(d.again for d in driven(kinds, DEFAULT))


def test_the_device_running_out_halves_the_micro_batch_and_keeps_the_effective_batch():
    decisions = driven(["out_of_memory_device"] * 9, Retry(out_of_memory="unlimited"), batch=24)
    assert [d.micro_batch for d in decisions[:-1]] == [12, 6, 3, 1]
    assert all(d.adapted and d.resume for d in decisions[:-1])
    assert not decisions[-1].again
    assert decisions[-1].reason.endswith("and the micro-batch is 1: not tried again")


def test_the_reason_of_a_halved_micro_batch_names_both_and_the_budget():
    attempt = ended("out_of_memory_device", checkpointed=True)
    assert decide([attempt], DEFAULT).reason == (
        "out_of_memory_device (budget out_of_memory) 1 of at most 2: tried again from its "
        "checkpoint with micro-batch 32 instead of 64, effective batch unchanged"
    )


def test_a_halved_micro_batch_stays_for_later_retries():
    history = [ended("out_of_memory_device"), ended("worker_lost", micro=32)]
    decision = decide(history, DEFAULT)
    assert (decision.micro_batch, decision.adapted) == (32, True)


def test_the_host_running_out_doubles_the_memory_once():
    decisions = driven(["out_of_memory_host"] * 3, Retry(out_of_memory=9), memory=3 * 2**30)
    assert [d.again for d in decisions] == [True, False]
    assert (decisions[0].memory_factor, decisions[0].adapted) == (2, False)
    assert decisions[0].reason.endswith("with 6GiB of memory instead of 3GiB")
    assert "once only" in decisions[1].reason


def test_doubled_memory_stays_for_later_retries():
    decisions = driven(["out_of_memory_host", "worker_lost"], DEFAULT, memory=2**30)
    assert decisions[1].memory_factor == 2


def test_without_an_amount_the_host_running_out_is_tried_again_unchanged():
    decision = decide([ended("out_of_memory_host")], DEFAULT)
    assert (decision.again, decision.memory_factor) == (True, 1)
    assert "resources.memory" in decision.reason


def test_host_and_device_draw_on_one_budget():
    kinds = ["out_of_memory_device", "out_of_memory_host", "out_of_memory_device"]
    assert [d.again for d in driven(kinds, DEFAULT)] == [True, True, False]


def test_an_unknown_failure_is_tried_again_from_the_start_where_the_policy_says_so():
    decision = decide([ended("unknown", checkpointed=True)], Retry(unknown=1))
    assert (decision.again, decision.resume) == (True, False)
    assert decision.reason == "unknown 1 of at most 1: tried again from the start"


def test_a_checkpoint_is_promised_only_where_one_was_seen():
    lost, progressed = ended("stalled"), ended("stalled", checkpointed=True)
    assert decide([lost], DEFAULT).reason == (
        "stalled 1 of at most 2: tried again from its newest checkpoint, if any"
    )
    assert decide([progressed, lost], DEFAULT).reason == (
        "stalled 2 of at most 2: tried again from its checkpoint"
    )


def test_a_spent_budget_is_named():
    decision = decide([ended("worker_lost")] * 4, DEFAULT)
    assert decision.reason == (
        "worker_lost 4 times without a new checkpoint in between, the budget of 3 is spent: "
        "not tried again"
    )


@given(history=histories, policy=policies)
def test_the_decision_is_the_same_when_asked_again_and_leaves_its_arguments_alone(history, policy):
    before = list(history)
    assert decide(history, policy) == decide(tuple(history), dataclasses.replace(policy))
    assert history == before


@given(history=histories, policy=policies, kind=st.sampled_from(FINAL))
def test_nothing_comes_after_a_final_kind(history, policy, kind):
    assert not decide([*history, ended(kind)], policy).again


@given(history=histories, policy=policies)
def test_the_reason_names_the_kind_its_budget_and_what_is_done(history, policy):
    decision = decide(history, policy)
    kind = history[-1].kind
    done = "tried again" if decision.again else "not tried again"
    head, _, tail = decision.reason.partition(": ")
    assert head.startswith(kind)
    assert tail.startswith(done)
    if kind not in FINAL:
        budget = getattr(policy, entry(kind))
        assert (str(budget) if budget else "no retries") in head


@given(history=histories, policy=policies)
def test_without_another_attempt_nothing_is_asked_of_it(history, policy):
    decision = decide(history, policy)
    if not decision.again:
        assert decision == dataclasses.replace(
            decision,
            resume=False,
            wait_seconds=0.0,
            micro_batch=None,
            memory_factor=1,
            adapted=False,
        )


@given(history=histories, policy=policies)
def test_what_another_attempt_gets_is_in_range(history, policy):
    decision = decide(history, policy)
    if decision.again:
        assert 0 <= decision.wait_seconds <= LONGEST_WAIT
        assert decision.micro_batch is None or 1 <= decision.micro_batch <= 64
        assert decision.memory_factor in (1, 2)
        assert decision.adapted == (decision.micro_batch is not None)


@given(
    kinds=st.lists(st.sampled_from(RETRIED), min_size=60, max_size=60),
    budgets=st.fixed_dictionaries(
        {item.name: st.integers(0, 4) for item in dataclasses.fields(Retry)}
    ),
    memory=st.sampled_from([None, 2**30]),
)
def test_retries_without_progress_are_bounded_by_the_sum_of_the_budgets(kinds, budgets, memory):
    decisions = driven(kinds, Retry(**budgets), memory=memory)
    assert not decisions[-1].again
    assert len(decisions) - 1 <= sum(budgets.values())


@given(history=histories, policy=policies, longer=policies)
def test_a_larger_budget_never_takes_a_retry_away(history, policy, longer):
    def larger(one, other):
        return "unlimited" if "unlimited" in (one, other) else max(one, other)

    names = [item.name for item in dataclasses.fields(Retry)]
    wide = Retry(**{n: larger(getattr(policy, n), getattr(longer, n)) for n in names})
    assert decide(history, wide).again or not decide(history, policy).again
