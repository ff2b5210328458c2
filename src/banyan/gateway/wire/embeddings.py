"""The body of `POST /v1/embeddings`."""

from banyan.gateway.wire.body import SmallInteger, TokenId
from banyan.gateway.wire.pooling import TruncationField


class EmbeddingRequest(TruncationField, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/embeddings`; the input is like a completion's prompt."""

    model: str
    input: str | list[str | TokenId | list[TokenId]]
    encoding_format: str | None = None
    user: str | None = None
    dimensions: SmallInteger | None = None
