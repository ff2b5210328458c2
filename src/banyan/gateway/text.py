"""The `TextModel` of a real model: its tokenizer and its chat template."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.foundation.errors import RequestError
from banyan.models.chat_rendering import ORDINARY_RENDERING, ChatRendering
from banyan.models.pairs import Pairs
from banyan.models.vision.image_prompts import ImagePrompts, Vision


class Tokenizer(Protocol):
    """What is needed of a tokenizer; `models.tokenizer.Tokenizer` is one."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Turn text into token ids."""
        ...

    def encode_cut(self, text: str, *, max_tokens: int) -> list[int]:
        """Turn text into at most `max_tokens` ids."""
        ...

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Turn token ids into text."""
        ...

    def token_text(self, token_id: int) -> str | None:
        """Give the vocabulary entry of an id, or None."""
        ...

    def token_id(self, entry: str) -> int | None:
        """Give the id of a vocabulary entry, or None."""
        ...


RenderChat = Callable[[Sequence[Mapping[str, Any]], ChatRendering], str]


class PromptText:
    """Encodes prompts with a tokenizer, conversations with `render_chat` before it.

    `pairs` joins two texts for a model that scores them, `vision` counts the tokens of images for
    one that sees them; others need none.

    Attributes:
        image_prompts: writes prompts with images; None for a model that sees none.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        render_chat: RenderChat,
        pairs: Pairs | None = None,
        vision: Vision | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._pairs = pairs
        self._render_chat = render_chat
        self.image_prompts: ImagePrompts | None = None
        if vision is not None:
            self.image_prompts = ImagePrompts(vision, render_chat, tokenizer)

    def become(self, other: "PromptText") -> None:
        """Read text as another one from now on: the model behind it was replaced."""
        self._tokenizer, self._render_chat = other._tokenizer, other._render_chat
        self._pairs, self.image_prompts = other._pairs, other.image_prompts

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the tokens of a plain prompt, with those the model wants around it."""
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def encode_cut(self, text: str, *, max_tokens: int) -> list[int]:
        """Return at most `max_tokens` tokens: the text is cut, special tokens stay."""
        return self._tokenizer.encode_cut(text, max_tokens=max_tokens)

    def encode_pair(self, query: str, document: str, *, max_tokens: int) -> PoolingPrompt:
        """Return two texts as one prompt of at most `max_tokens`."""
        if self._pairs is None:
            raise RequestError("this model does not read pairs of texts", parameter="model")
        pair = self._pairs.encode(query, document, max_tokens=max_tokens)
        return PoolingPrompt(pair.token_ids, pair.token_types)

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        rendering: ChatRendering = ORDINARY_RENDERING,
    ) -> list[int]:
        """Return the tokens of a conversation; its template already wrote the special ones."""
        return self._tokenizer.encode(
            self._render_chat(messages, rendering), add_special_tokens=rendering.add_special_tokens
        )

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of tokens, by default with the special ones."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def token_text(self, token_id: int) -> str | None:
        """Return the vocabulary entry of an id, None when there is none."""
        return self._tokenizer.token_text(token_id)

    def token_id(self, entry: str) -> int | None:
        """Return the id of a vocabulary entry, None when there is none."""
        return self._tokenizer.token_id(entry)


def plain_chat(
    messages: Sequence[Mapping[str, Any]], rendering: ChatRendering = ORDINARY_RENDERING
) -> str:
    """Render a conversation for a model that knows no template: one line per turn."""
    lines = [f"{message['role']}: {message['content']}" for message in messages]
    if rendering.add_generation_prompt:
        lines.append("assistant:")
    return "\n".join(lines)
