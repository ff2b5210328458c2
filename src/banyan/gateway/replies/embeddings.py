"""Replies of `POST /v1/embeddings`."""

import msgspec


class EmbeddingUsage(msgspec.Struct, frozen=True):
    """Tokens read for an embedding request."""

    prompt_tokens: int
    total_tokens: int


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """One vector: floats, or their little-endian float32 bytes in base64."""

    object: str = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingReply(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of `POST /v1/embeddings`."""

    object: str = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
