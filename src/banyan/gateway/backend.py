"""What the gateway needs from below, and what it is told.

Owns the two seams of this layer: `Backend` generates tokens and vectors, `TextModel` turns text
into tokens and back. `cli/serve.py` hands both over (an `EngineClient` is a `Backend`); tests hand
over scripted ones.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol

from banyan.engine.events import EngineStatistics, TokenEvent
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.process.status import EngineStatus
from banyan.engine.request_context import ORDINARY, RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speech.transcript import Transcript, TranscriptionOptions
from banyan.models.chat_rendering import ORDINARY_RENDERING, ChatRendering
from banyan.models.vision.image_prompts import ImagePrompts
from banyan.models.vision.media import Media


class Backend(Protocol):
    """Something that runs one model and never blocks the event loop."""

    def status(self) -> EngineStatus:
        """Say at once whether requests can be served."""
        ...

    def statistics(self) -> EngineStatistics | None:
        """Return the newest counters, at most a step old; None before the first start."""
        ...

    def generate(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        options: SamplingOptions,
        context: RequestContext = ORDINARY,
        media: Sequence[Media] = (),
    ) -> AsyncGenerator[TokenEvent, None]:
        """Yield the events of all `options.n` answers; closing the generator cancels them.

        `media` are the images of the prompt, in order of their places.

        Raises:
            RequestError: the engine refuses the request.
            EngineStopped: the engine died or is not there.
        """
        ...

    async def pool(
        self, request_id: str, prompts: Sequence[PoolingPrompt], *, caller: str = ""
    ) -> tuple[bytes, ...]:
        """Return one vector or row of scores per prompt as little-endian float32 bytes."""
        ...

    async def load_adapter(self, name: str, path: str, *, replaces: bool = False) -> None:
        """Let requests name the adapter at `path`; raises `RequestError` when it cannot be used."""
        ...

    async def unload_adapter(self, name: str) -> None:
        """Drop an adapter; raises `RequestError` when there is none of this name."""
        ...

    async def transcribe(
        self, request_id: str, sound: bytes, options: TranscriptionOptions, *, caller: str = ""
    ) -> Transcript:
        """Return what is said in the bytes of a file."""
        ...


class TextModel(Protocol):
    """The tokenizer and chat template of the model; called in a worker thread."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the tokens of a plain prompt, with those the model wants around it."""
        ...

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        rendering: ChatRendering = ORDINARY_RENDERING,
    ) -> list[int]:
        """Return the tokens of a conversation, by default ending where the answer begins.

        Raises:
            RequestError: the model has no chat template, or its template refuses the messages.
        """
        ...

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of tokens, by default with the special ones."""
        ...

    def token_text(self, token_id: int) -> str | None:
        """Return the vocabulary entry of an id as it is stored, None when there is none."""
        ...

    def token_id(self, entry: str) -> int | None:
        """Return the id of a vocabulary entry, None when there is none."""
        ...


class TextAndPairs(TextModel, Protocol):
    """What every route may ask of a model's text: also images, and prompts for vectors."""

    @property
    def image_prompts(self) -> ImagePrompts | None:
        """What writes prompts with images; None for a model that sees none."""
        ...

    def encode_cut(self, text: str, *, max_tokens: int) -> list[int]:
        """Return at most `max_tokens` tokens: the text is cut, special tokens stay."""
        ...

    def encode_pair(self, query: str, document: str, *, max_tokens: int) -> PoolingPrompt:
        """Return two texts as one prompt of at most `max_tokens`."""
        ...
