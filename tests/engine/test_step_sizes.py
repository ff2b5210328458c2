"""Steps by the number of their tokens."""

from hypothesis import given
from hypothesis import strategies as st

from banyan.engine.step_sizes import SIZES, StepSizes


def test_a_step_is_counted_at_the_first_bound_that_it_does_not_exceed() -> None:
    sizes = StepSizes()
    for num_tokens in (1, 2, 8, 9, 20000):
        sizes.note(num_tokens)
    assert sizes.counts() == (1, 2, 1, *(0,) * 10, 1)
    assert sizes.num_tokens == 20020


@given(st.lists(st.integers(1, 30000)))
def test_no_step_is_lost(steps: list[int]) -> None:
    sizes = StepSizes()
    for num_tokens in steps:
        sizes.note(num_tokens)
    counts = sizes.counts()
    assert sum(counts) == len(steps)
    for position, bound in enumerate(SIZES):
        assert sum(counts[: position + 1]) == sum(one <= bound for one in steps)
