import pytest

from banyan.engine.options import EngineLimits, EngineOptions, QueuePolicy
from banyan.engine.presets import PRESETS, chosen_options
from banyan.engine.runner import LaneSlice
from banyan.engine.scheduling.pacing import Pacing
from banyan.engine.scheduling.scheduler import Demand, SequenceId
from banyan.foundation.errors import InputError


def test_without_a_preset_what_is_not_asked_stays_as_it_is() -> None:
    assert chosen_options(None, {"threads": 2, "max_num_seqs": None}) == EngineOptions(threads=2)


def test_a_preset_proposes_and_the_person_wins() -> None:
    chosen = chosen_options("low-latency", {"max_num_seqs": 3, "threads": None})
    assert (chosen.max_num_seqs, chosen.max_num_batched_tokens) == (3, 256)


def taught(policy: QueuePolicy) -> Pacing:
    """A machine of 20 ms a step and 1 ms a token."""
    limits = EngineLimits(max_model_len=4096, max_num_seqs=8, token_budget=4096, num_blocks=2048)
    pacing = Pacing(policy, limits)
    for number in range(120):
        num_tokens = 1 << (number % 12)
        pacing.note([LaneSlice(0, 0, num_tokens, 1)], 0.02 + 1e-3 * num_tokens)
    return pacing


@pytest.mark.parametrize(
    ("preset", "least", "most"),
    [("low-latency", 65, 90), ("throughput", 850, 1050), (None, 4096, 4096)],
)
def test_the_goal_of_a_preset_bounds_a_step_beside_an_answer_being_written(
    preset: str | None, least: int, most: int
) -> None:
    pacing = taught(chosen_options(preset, {}).queue_policy())
    writing = Demand(SequenceId(1), 101, 100, 7)
    assert least <= pacing.token_budget([writing]) <= most


def test_a_goal_that_somebody_sets_wins_over_the_one_of_the_preset() -> None:
    chosen = chosen_options("low-latency", {"latency_goal_ms": 40.0})
    assert chosen.queue_policy().latency_goal_seconds == 0.04
    assert chosen_options("throughput", {}).queue_policy().latency_goal_seconds == 1.0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_used_as_it_is(name: str) -> None:
    options = chosen_options(name, {})
    assert options.max_num_batched_tokens is not None
    assert options.max_num_batched_tokens >= options.max_num_seqs


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"preset='fast' is not known; use one of low-latency"):
        chosen_options("fast", {})
