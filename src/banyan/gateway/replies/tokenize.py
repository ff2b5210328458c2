"""Replies of `POST /tokenize` and `POST /detokenize`, in vLLM's shapes."""

import msgspec


class TokenizeReply(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of a text; `token_strs` are their entries in the vocabulary, when asked for."""

    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeReply(msgspec.Struct, frozen=True, kw_only=True):
    """The text of tokens, special ones included."""

    prompt: str
