"""Run a list of prompts through an engine to the end, as `LLM.generate` does.

Owns nothing; the engine may have any model behind it. Not for serving: the engine is taken for the
whole call.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from banyan.engine.engine import Engine
from banyan.engine.events import TokenEvent
from banyan.engine.outputs import RequestOutput, gather_answer
from banyan.engine.request_context import RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import RequestError
from banyan.models.vision.media import Media

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt in tokens.

    Attributes:
        token_ids: what the model reads.
        text: what they were made from, if anything.
        adapter: name of a loaded adapter, None for the base model.
        media: the images of the prompt, in order of their places.
    """

    token_ids: list[int]
    text: str | None = None
    adapter: str | None = None
    media: tuple[Media, ...] = ()


def run_prompts(
    engine: Engine,
    prompts: Sequence[Prompt],
    options: Sequence[SamplingOptions],
    *,
    progress: Progress | None = None,
) -> list[RequestOutput]:
    """Generate the answers to all prompts, in order.

    Nothing is generated when one prompt is refused; an interrupted call leaves the engine empty.

    Raises:
        RequestError: a prompt or its options cannot be served; names the prompt's number.
    """
    try:
        for number, (prompt, choice) in enumerate(zip(prompts, options, strict=True)):
            _add(engine, number, prompt, choice, num_prompts=len(prompts))
        events = _collect(engine, sum(choice.n for choice in options), progress)
    finally:
        for number in range(len(prompts)):
            engine.cancel(str(number))
        while engine.has_work():
            engine.step()
    return [
        RequestOutput(
            prompt=prompt.text,
            prompt_token_ids=prompt.token_ids,
            outputs=tuple(gather_answer(events[str(number), index]) for index in range(choice.n)),
        )
        for number, (prompt, choice) in enumerate(zip(prompts, options, strict=True))
    ]


def _add(
    engine: Engine, number: int, prompt: Prompt, options: SamplingOptions, *, num_prompts: int
) -> None:
    try:
        engine.prepare(options)
        context = RequestContext(adapter=prompt.adapter)
        engine.add_request(str(number), prompt.token_ids, options, context, media=prompt.media)
    except RequestError as error:
        if num_prompts == 1:
            raise
        raise RequestError(
            f"prompt {number} of {num_prompts} (counting from 0): {error}",
            parameter=error.parameter,
        ) from error


def _collect(
    engine: Engine, num_answers: int, progress: Progress | None
) -> dict[tuple[str, int], list[TokenEvent]]:
    events: dict[tuple[str, int], list[TokenEvent]] = defaultdict(list)
    num_finished = 0
    while engine.has_work():
        stepped = engine.step()
        for refusal in engine.take_refusals():
            raise refusal.error
        for event in stepped:
            events[event.request_id, event.index].append(event)
            if event.finish_reason is not None:
                num_finished += 1
                if progress is not None:
                    progress("Generating", num_finished, num_answers)
    return events
