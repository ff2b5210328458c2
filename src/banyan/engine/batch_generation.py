"""Run a list of prompts through an engine to the end, as `LLM.generate` does.

Owns nothing; the engines may have any model behind them. Not for serving: they are taken for the
whole call.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import Event, Lock
from typing import TypeAlias

from banyan.engine.engine import Engine
from banyan.engine.events import TokenEvent
from banyan.engine.outputs import RequestOutput, gather_answer
from banyan.engine.replica_options import share_out
from banyan.engine.request_context import RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import RequestError
from banyan.models.vision.media import Media

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_Events: TypeAlias = dict[tuple[str, int], list[TokenEvent]]
"""By request and number of the answer."""


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
    engines: Sequence[Engine],
    prompts: Sequence[Prompt],
    options: Sequence[SamplingOptions],
    *,
    speeds: Sequence[float] = (1.0,),
    progress: Progress | None = None,
) -> list[RequestOutput]:
    """Generate the answers to all prompts, in order.

    Nothing is generated when one prompt is refused; an interrupted call leaves the engines empty.

    Args:
        engines: of the same model; several work at the same time, a thread each.
        prompts: each goes to one engine.
        options: of each prompt.
        speeds: of the engines against each other.
        progress: called as answers end, one call at a time.

    Raises:
        RequestError: a prompt or its options cannot be served; names the prompt's number.
    """
    pairs = list(zip(prompts, options, strict=True))
    costs = [len(prompt.token_ids) + (choice.max_tokens or 0) for prompt, choice in pairs]
    owners = [engines[owner] for owner in share_out(costs, speeds)]
    try:
        for number, (prompt, choice) in enumerate(pairs):
            _add(owners[number], number, prompt, choice, num_prompts=len(prompts))
        told = _Told(sum(choice.n for choice in options), progress)
        events = _collect_all(engines, told)
    finally:
        for number, engine in enumerate(owners):
            engine.cancel(str(number))
        for engine in engines:
            while engine.has_work():
                engine.step()
    return [
        RequestOutput(
            prompt=prompt.text,
            prompt_token_ids=prompt.token_ids,
            outputs=tuple(gather_answer(events[str(number), index]) for index in range(choice.n)),
        )
        for number, (prompt, choice) in enumerate(pairs)
    ]


class _Told:
    """How many answers have ended, for who wants to know, and whether to go on."""

    def __init__(self, num_answers: int, progress: Progress | None) -> None:
        self._num_answers, self._progress = num_answers, progress
        self._num_finished = 0
        self._lock = Lock()
        self.is_over = Event()

    def add(self) -> None:
        """One more has ended."""
        with self._lock:
            self._num_finished += 1
            if self._progress is not None:
                self._progress("Generating", self._num_finished, self._num_answers)


def _collect_all(engines: Sequence[Engine], told: _Told) -> _Events:
    """The events of all engines; when one fails the others stop."""
    if len(engines) == 1:
        return _collect(engines[0], told)
    events: _Events = defaultdict(list)
    with ThreadPoolExecutor(len(engines), "replica") as threads:
        running = [threads.submit(_collect, engine, told) for engine in engines]
        try:
            for future in as_completed(running):
                events.update(future.result())
        finally:
            told.is_over.set()
    return events


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


def _collect(engine: Engine, told: _Told) -> _Events:
    events: _Events = defaultdict(list)
    while engine.has_work() and not told.is_over.is_set():
        stepped = engine.step()
        for refusal in engine.take_refusals():
            raise refusal.error
        for event in stepped:
            events[event.request_id, event.index].append(event)
            if event.finish_reason is not None:
                told.add()
    return events
