import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banyan.foundation.errors import RequestError
from banyan.models.vision.placeholders import expand_placeholders

IMAGE = 9


def test_each_placeholder_becomes_as_many_as_its_picture_has_rows() -> None:
    tokens, starts = expand_placeholders([1, IMAGE, 2, IMAGE], [3, 1], image_token_id=IMAGE)
    assert (tokens, starts) == ([1, 9, 9, 9, 2, 9], [1, 5])


@pytest.mark.parametrize(("tokens", "counts"), [([1], [2]), ([9, 9], [1]), ([9], [])])
def test_a_placeholder_in_the_text_is_not_taken_for_a_picture(
    tokens: list[int], counts: list[int]
) -> None:
    with pytest.raises(RequestError, match=f"{tokens.count(9)} places .* {len(counts)} images"):
        expand_placeholders(tokens, counts, image_token_id=IMAGE)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 13), max_size=20))
def test_shrinking_the_runs_again_gives_the_prompt(numbers: list[int]) -> None:
    # Numbers from 9 on are pictures of 1 to 5 rows.
    short = [min(number, IMAGE) for number in numbers]
    counts = [number - 8 for number in numbers if number >= IMAGE]
    tokens, starts = expand_placeholders(short, counts, image_token_id=IMAGE)
    assert len(tokens) == len(short) + sum(counts) - len(counts)
    for start, count in reversed(list(zip(starts, counts, strict=True))):
        assert tokens[start : start + count] == [IMAGE] * count
        tokens[start : start + count] = [IMAGE]
    assert tokens == short
