import pytest
from hypothesis import given
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


@given(st.lists(st.one_of(st.integers(0, 8), st.tuples(st.integers(1, 5)))))
def test_shrinking_the_runs_again_gives_the_prompt(pieces: list[int | tuple[int]]) -> None:
    short = [IMAGE if isinstance(piece, tuple) else piece for piece in pieces]
    counts = [piece[0] for piece in pieces if isinstance(piece, tuple)]
    tokens, starts = expand_placeholders(short, counts, image_token_id=IMAGE)
    assert len(tokens) == len(short) + sum(counts) - len(counts)
    for start, count in reversed(list(zip(starts, counts, strict=True))):
        assert tokens[start : start + count] == [IMAGE] * count
        tokens[start : start + count] = [IMAGE]
    assert tokens == short
