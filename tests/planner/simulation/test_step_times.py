"""Times that are looked up are those of the model they are from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.planner.costs import StepShape
from banyan.planner.simulation.stage_costs import RoundTime
from banyan.planner.simulation.step_times import TabledTimes


def _bent(step: StepShape) -> RoundTime:
    """A roof: reading weights and cache, or computing, whichever takes longer."""
    moving = 1e-2 + 1e-7 * step.cached_tokens
    computing = 4e-5 * step.num_tokens + 1e-9 * step.attended_pairs + 1e-6 * step.num_rows
    return RoundTime(max(moving, computing), (0.5,))


@given(st.integers(1, 512), st.integers(1, 30_000))
def test_a_line_of_decoding_steps_is_near_its_model(count: int, context: int) -> None:
    cached = count * context
    line = TabledTimes(_bent).decode(count, cached)
    exact = _bent(StepShape(count, count, cached, cached)).seconds
    assert line.fixed + line.slope * cached == pytest.approx(exact, rel=0.035)
    assert line.end > cached
    for further in range(cached, int(min(line.end, 64 * cached)), cached):
        exact = _bent(StepShape(count, count, further, further)).seconds
        assert line.fixed + line.slope * further == pytest.approx(exact, rel=0.035)


@given(st.integers(1, 8192), st.integers(1, 256), st.integers(0, 10**6), st.integers(0, 10**7))
def test_a_step_with_prompts_is_near_its_model(
    tokens: int, rows: int, cached: int, pairs: int
) -> None:
    rows = min(rows, tokens)
    found = TabledTimes(_bent).step(tokens, rows, cached, pairs)
    exact = _bent(StepShape(tokens, rows, cached, pairs)).seconds
    assert found.seconds == pytest.approx(exact, rel=0.06)


def test_points_are_asked_for_once() -> None:
    asked: list[StepShape] = []

    def predict(step: StepShape) -> RoundTime:
        asked.append(step)
        return _bent(step)

    times = TabledTimes(predict)
    for _ in range(3):
        times.step(100, 10, 1000, 1000)
        times.decode(10, 1000)
    assert len(asked) == len(set(asked)) < 16
