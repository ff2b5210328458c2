"""A tokenizer that is a list of entries and spells ordinary text letter by letter."""

from collections.abc import Mapping, Sequence
from typing import Any

from banyan.models.chat_rendering import ORDINARY_RENDERING, ChatRendering


class Vocabulary:
    """Entry i has the id i; any letter of ordinary text has 1000 + its code."""

    def __init__(self, entries: Sequence[str | None], decoded: str = "") -> None:
        self._entries = entries
        self._decoded = decoded

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        begin = [0] if add_special_tokens else []
        return begin + [1000 + ord(letter) for letter in text]

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], rendering: ChatRendering = ORDINARY_RENDERING
    ) -> list[int]:
        raise NotImplementedError

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return self._decoded

    def token_text(self, token_id: int) -> str | None:
        return self._entries[token_id]

    def token_id(self, entry: str) -> int | None:
        return self._entries.index(entry) if entry in self._entries else None
