import pytest

from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.pooling.runner import check_prompt
from banyan.foundation.errors import RequestError


def test_a_prompt_that_fits_passes() -> None:
    check_prompt(0, PoolingPrompt((0, 99), (0, 1)), max_tokens=2, vocab_size=100)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (PoolingPrompt(()), "input 1 is empty; give at least one token"),
        (PoolingPrompt((1,) * 9), "input 1 has 9 tokens; this model takes at most 8"),
        (PoolingPrompt((100,)), "input 1 holds a token id outside 0 to 99"),
        (PoolingPrompt((-1,)), "input 1 holds a token id outside 0 to 99"),
        (PoolingPrompt((1, 2), (0,)), "input 1 has 1 token types for 2 tokens; give a 0 or a 1 "),
        (PoolingPrompt((1,), (2,)), "input 1 has 1 token types for 1 tokens; give a 0 or a 1 "),
    ],
)
def test_a_prompt_that_cannot_be_computed_is_refused(prompt: PoolingPrompt, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_prompt(1, prompt, max_tokens=8, vocab_size=100)
    assert str(caught.value).startswith(words)
