"""Text to token ids and back, through the tokenizers library.

Owns reading `tokenizer.json` and the special tokens named in `tokenizer_config.json`. Never knows
a conversation: that is `banyan.models.chat_template`. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from banyan.foundation.errors import ModelError, RequestError
from banyan.models.json_fields import Fields

# Above this a text takes milliseconds. `encode` is quickest on short texts but keeps Python's lock
# all the while, so that every stream of a server would stand still; batches release it.
_LONG_TEXT = 10_000

_NAMED_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token", "cls_token", "sep_token")


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Two texts as one prompt; `token_types` has a 0 or 1 per token, or is empty for zeros."""

    token_ids: tuple[int, ...]
    token_types: tuple[int, ...]


class Tokenizer:
    """One tokenizer; safe to use from several threads."""

    def __init__(
        self, backend: tokenizers.Tokenizer, *, named_tokens: dict[str, str] | None = None
    ) -> None:
        """Wrap a tokenizer of the tokenizers library.

        `named_tokens` maps roles, such as "eos_token", to the text of the token.
        """
        # A tokenizer.json may carry the truncation and padding of its training script.
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.named_tokens = dict(named_tokens or {})
        added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(index for index, token in added.items() if token.special)

    @classmethod
    def read(cls, directory: Path) -> "Tokenizer":
        """Read the tokenizer of a model directory.

        Raises:
            ModelError: `tokenizer.json` is missing or damaged.
        """
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                f"{directory} holds no tokenizer.json; convert its tokenizer with transformers "
                "(AutoTokenizer.save_pretrained) and put the file there"
            )
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception for any damage
            raise ModelError(f"{path} is not a tokenizer file: {error}") from error
        return cls(backend, named_tokens=_read_named_tokens(directory))

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included; the model may have more rows."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @property
    def eos_token_id(self) -> int | None:
        """Id of the end token that tokenizer_config.json names, or None."""
        name = self.named_tokens.get("eos_token")
        return None if name is None else self.token_id(name)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Turn text into token ids.

        A rendered chat template already holds its special tokens: pass
        `add_special_tokens=False` for it.

        Raises:
            RequestError: the text is not valid Unicode (a lone surrogate).
        """
        _require_unicode(text)
        if len(text) < _LONG_TEXT:
            encoding = self._backend.encode(text, add_special_tokens=add_special_tokens)
        else:
            (encoding,) = self._backend.encode_batch_fast(
                [text], add_special_tokens=add_special_tokens
            )
        return list(encoding.ids)

    def encode_cut(self, text: str, *, max_tokens: int) -> list[int]:
        """Turn text into at most `max_tokens` ids: the text is cut, special tokens stay."""
        _require_unicode(text)
        encoding = self._backend.encode(text, add_special_tokens=False)
        num_special = int(self._backend.num_special_tokens_to_add(is_pair=False))
        encoding.truncate(max(0, max_tokens - num_special))
        return list(self._backend.post_process(encoding).ids)

    def encode_pair(self, first: str, second: str, *, max_tokens: int) -> EncodedPair:
        """Turn two texts into at most `max_tokens` ids as the tokenizer's template joins them.

        The longer text is cut until both are equally long, then both are.
        """
        for text in (first, second):
            _require_unicode(text)
        left, right = (self._backend.encode(t, add_special_tokens=False) for t in (first, second))
        num_special = int(self._backend.num_special_tokens_to_add(is_pair=True))
        limit = max(0, max_tokens - num_special)
        lengths = cut_longer_first(len(left), len(right), limit=limit)
        left.truncate(lengths[0])
        right.truncate(lengths[1])
        joined = self._backend.post_process(left, right)
        return EncodedPair(tuple(joined.ids), tuple(joined.type_ids))

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Turn token ids into text; an incomplete character at an end becomes U+FFFD.

        Ids above the vocabulary give no text: a model may have more rows than its tokenizer.
        """
        return str(self._backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens))

    def to_json(self) -> str:
        """Give the whole tokenizer as the text of a `tokenizer.json`."""
        return str(self._backend.to_str())

    def token_text(self, token_id: int) -> str | None:
        """Give the vocabulary entry of an id as it is stored, or None when there is none."""
        entry = self._backend.id_to_token(token_id)
        return None if entry is None else str(entry)

    def token_id(self, entry: str) -> int | None:
        """Give the id of a vocabulary entry, or None."""
        index = self._backend.token_to_id(entry)
        return None if index is None else int(index)


def cut_longer_first(first: int, second: int, *, limit: int) -> tuple[int, int]:
    """Give the lengths of two texts after cutting the longer one until `limit` holds both."""
    if first + second <= limit:
        return first, second
    shorter = min(first, second, limit // 2)
    return (shorter, limit - shorter) if first <= second else (limit - shorter, shorter)


def _require_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            f"the text holds the character U+{ord(text[error.start]):04X} at position "
            f"{error.start}, half of a pair and not valid on its own; send valid UTF-8"
        ) from error


def _read_named_tokens(directory: Path) -> dict[str, str]:
    """Read the roles of special tokens; a token is a string or an object with `content`."""
    tokens: dict[str, str] = {}
    for file_name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = directory / file_name
        if path.is_file():
            values = Fields.read(path).values
            found = {role: _token_content(values.get(role)) for role in _NAMED_TOKENS}
            tokens |= {role: content for role, content in found.items() if content is not None}
    return tokens


def _token_content(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
