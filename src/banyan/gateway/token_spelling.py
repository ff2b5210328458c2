"""How single tokens are written in replies: their text, their bytes, or their number."""

import re
from functools import cache

from banyan.gateway.backend import TextModel

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenSpelling:
    """Writes tokens of one model.

    Args:
        text: the tokenizer.
        as_ids: write `token_id:N` instead of text, as vLLM's `return_tokens_as_token_ids` asks.
    """

    def __init__(self, text: TextModel, *, as_ids: bool = False) -> None:
        self._text = text
        self._as_ids = as_ids

    def name(self, token_id: int) -> str:
        """Return the token's text; a part of a character is a replacement sign."""
        return f"token_id:{token_id}" if self._as_ids else self._text.decode([token_id])

    def bytes(self, token_id: int) -> list[int] | None:
        """Return the token's UTF-8, also of a part of a character; None when it is not known."""
        plain = self._text.decode([token_id])
        if "\ufffd" not in plain:
            return list(plain.encode())
        entry = self._text.token_text(token_id)
        if entry is None:
            return None
        if match := _BYTE_TOKEN.fullmatch(entry):
            return [int(match[1], 16)]
        alphabet = _byte_alphabet()
        if all(letter in alphabet for letter in entry):
            return [alphabet[letter] for letter in entry]
        return None


@cache
def _byte_alphabet() -> dict[str, int]:
    """Letters that stand for bytes in vocabularies of byte-level BPE (Radford et al. 2019, GPT-2).

    Printable ones stand for themselves; the others are counted from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(0x100 + place): byte for place, byte in enumerate(others)}
