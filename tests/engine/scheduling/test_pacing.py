"""Token budgets of steps by a latency goal."""

from banyan.engine.options import EngineLimits, QueuePolicy
from banyan.engine.runner import LaneSlice
from banyan.engine.scheduling.pacing import Pacing
from banyan.engine.scheduling.scheduler import Demand, SequenceId

LIMITS = EngineLimits(max_model_len=4096, max_num_seqs=8, token_budget=1024, num_blocks=2048)


def decoding(number: int) -> Demand:
    return Demand(SequenceId(number), 101, 100, 7)


def taught(goal: float | None) -> Pacing:
    """A machine of 10 ms a step and 0.1 ms a token."""
    pacing = Pacing(QueuePolicy(latency_goal_seconds=goal), LIMITS)
    for number in range(100):
        num_tokens = 1 << (number % 11)
        pacing.note([LaneSlice(0, 0, num_tokens, 1)], 0.01 + 1e-4 * num_tokens)
    return pacing


def test_without_a_goal_or_without_readers_every_step_may_be_as_large_as_it_can() -> None:
    assert taught(None).token_budget([decoding(1)]) == 1024
    assert taught(0.02).token_budget([]) == 1024
    assert taught(0.02).token_budget([Demand(SequenceId(1), 900, 100, 57)]) == 1024


def test_prompts_get_what_the_goal_leaves() -> None:
    assert 85 <= taught(0.02).token_budget([decoding(1), decoding(2)]) <= 110
    assert 350 <= taught(0.05).token_budget([decoding(1)]) <= 420


def test_a_goal_that_decoding_alone_misses_still_lets_prompts_go_on() -> None:
    running = [decoding(number) for number in range(5)]
    assert taught(0.001).token_budget(running) == 5 + 16


def test_every_running_sequence_has_a_token_in_the_budget() -> None:
    running = [decoding(1), *(Demand(SequenceId(n), 900, 100, 57) for n in range(2, 40))]
    assert taught(0.001).token_budget(running) == 39


def test_what_a_prompt_takes_is_known_once_steps_were_seen() -> None:
    assert Pacing(QueuePolicy(), LIMITS).begin_seconds(100) == 0.0
    longest_step = 0.01 + 1e-4 * 1024
    assert 0.09 + 0.8 * longest_step < taught(None).begin_seconds(1000) < 0.11 + longest_step
