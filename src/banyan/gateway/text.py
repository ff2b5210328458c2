"""The `TextModel` of a real model: its tokenizer and its chat template."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """What is needed of a tokenizer; `models.tokenizer.Tokenizer` is one."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Turn text into token ids."""
        ...

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Turn token ids into text."""
        ...


class PromptText:
    """Encodes prompts with a tokenizer, conversations with `render_chat` before it."""

    def __init__(
        self, tokenizer: Tokenizer, render_chat: Callable[[Sequence[Mapping[str, str]]], str]
    ) -> None:
        self._tokenizer = tokenizer
        self._render_chat = render_chat

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a plain prompt, with those the model wants around it."""
        return self._tokenizer.encode(text)

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the tokens of a conversation; its template already wrote the special ones."""
        return self._tokenizer.encode(self._render_chat(messages), add_special_tokens=False)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=False)


def plain_chat(messages: Sequence[Mapping[str, str]]) -> str:
    """Render a conversation for a model that knows no template: one line per turn."""
    lines = [f"{message['role']}: {message['content']}" for message in messages]
    return "\n".join([*lines, "assistant:"])
