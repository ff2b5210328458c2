from banyan.engine.events import TokenEvent, TokenLogprob
from banyan.gateway.generation import Answers, Part


def event(index: int, logprob: float, *, num_cached: int = 0) -> TokenEvent:
    return TokenEvent(
        request_id="r",
        index=index,
        token_ids=(1,),
        text=str(index),
        logprobs=(TokenLogprob(1, logprob),),
        finish_reason="stop",
        num_prompt_tokens=10,
        num_generated_tokens=1,
        num_cached_tokens=num_cached,
    )


def test_the_best_are_the_likeliest_per_token_prompt_by_prompt() -> None:
    answers = Answers(num_prompts=2, num_choices=3)
    for index, logprob in enumerate((-3.0, -1.0, -2.0, -1.0, -9.0, -0.5)):
        answers.add(Part(index, event(index, logprob)))
    # A second token makes the second answer likelier per token than the third, not in all.
    answers.add(Part(2, event(2, -0.1)))
    assert [answer.text for answer in answers.best(1)] == ["1", "5"]
    assert [answer.text for answer in answers.best(2)] == ["1", "22", "5", "3"]
    assert answers.best(3) == answers.items


def test_cached_tokens_of_a_prompt_count_once() -> None:
    answers = Answers(num_prompts=2, num_choices=2)
    for index in range(4):
        answers.add(Part(index, event(index, -1.0, num_cached=8)))
    usage = answers.usage()
    assert usage.prompt_tokens == 20
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 16
