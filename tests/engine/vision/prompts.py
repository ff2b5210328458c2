"""Prompts with pictures for the fake model."""

from dataclasses import dataclass

from banyan.engine.engine import Engine
from banyan.engine.events import TokenEvent
from banyan.engine.request_context import ORDINARY, RequestContext
from banyan.engine.requests.reception import Refusal
from banyan.engine.sampling import SamplingOptions
from banyan.engine.vision.fake_eyes import IMAGE_TOKEN_ID, FakeEyes
from banyan.models.vision.media import Media
from banyan.models.vision.placeholders import expand_placeholders

GREEDY = SamplingOptions(temperature=0.0, max_tokens=8, ignore_eos=True)


def image(rows: int, columns: int, name: str = "cat") -> bytes:
    """The file of a picture."""
    return f"IMG {rows}x{columns} {name}".encode()


@dataclass(frozen=True)
class Shown:
    """A prompt and its pictures."""

    token_ids: list[int]
    media: tuple[Media, ...]


def shown(*pieces: str | bytes) -> Shown:
    """Put pictures (bytes) between texts."""
    eyes = FakeEyes()
    tokens: list[int] = []
    images = [piece for piece in pieces if isinstance(piece, bytes)]
    for piece in pieces:
        tokens += [IMAGE_TOKEN_ID] if isinstance(piece, bytes) else list(piece.encode())
    counts = [eyes.measure(content).num_tokens for content in images]
    tokens, starts = expand_placeholders(tokens, counts, image_token_id=IMAGE_TOKEN_ID)
    media = zip(images, starts, counts, strict=True)
    return Shown(
        tokens,
        tuple(
            Media(content, start, count, f"content[{number}]")
            for number, (content, start, count) in enumerate(media)
        ),
    )


def add(
    engine: Engine,
    name: str,
    prompt: Shown,
    options: SamplingOptions = GREEDY,
    context: RequestContext = ORDINARY,
) -> None:
    """Give an engine a request."""
    engine.add_request(name, prompt.token_ids, options, context, media=prompt.media)


def finish(engine: Engine, refusals: list[Refusal] | None = None) -> dict[str, list[TokenEvent]]:
    """Run an engine until it is empty; `refusals` takes those who are refused, else none may be."""
    events: dict[str, list[TokenEvent]] = {}
    num_steps = 0
    while engine.has_work():
        num_steps += 1
        assert num_steps < 3000, "the engine hangs"
        for event in engine.step():
            events.setdefault(event.request_id, []).append(event)
        refused = engine.take_refusals()
        if refusals is None:
            assert not refused
        else:
            refusals += refused
    return events


def texts(events: dict[str, list[TokenEvent]]) -> dict[str, str]:
    """The whole text of each request's first answer."""
    return {
        name: "".join(event.text for event in told if event.index == 0)
        for name, told in events.items()
    }
