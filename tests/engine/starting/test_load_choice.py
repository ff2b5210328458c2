"""Answers begin in groups under plans that attend elsewhere, and under no others."""

import pytest

from banyan.engine.fake import FakeModel
from banyan.engine.options import EngineLimits, EngineOptions
from banyan.engine.starting.load_choice import choose_depth, choose_steady_load
from banyan.planner.plan import Stage
from tests.engine.stages.plans import plan_text

LIMITS = EngineLimits(max_model_len=64, max_num_seqs=4, token_budget=64, num_blocks=16)


@pytest.mark.parametrize(
    ("plan", "is_chosen"),
    [
        (None, False),
        (plan_text(Stage(0, 1, ("a",)), Stage(1, 2, ("b",))), False),
        (plan_text(Stage(0, 2, ("a",), attention=("b",))), True),
    ],
    ids=["no plan", "two stages", "attention apart"],
)
def test_the_plan_decides(plan: str | None, is_chosen: bool) -> None:
    chosen = choose_steady_load(EngineOptions(plan=plan), LIMITS)
    assert (chosen is not None) == is_chosen


def test_steps_under_way_are_learned_where_a_model_takes_several() -> None:
    alone, staged = choose_depth(FakeModel(16)), choose_depth(FakeModel(16, num_in_flight=4))
    assert (alone.current, alone.most) == (1, 1)
    assert (staged.current, staged.most) == (2, 4)
