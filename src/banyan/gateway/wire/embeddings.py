"""The body of `POST /v1/embeddings`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from banyan.gateway.wire.body import RequestBody, SmallInteger, TokenId


class EmbeddingRequest(RequestBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/embeddings`; the input is like a completion's prompt."""

    not_served: ClassVar[Mapping[str, tuple[Any, ...]]] = {"dimensions": ()}

    model: str
    input: str | list[str | TokenId | list[TokenId]]
    encoding_format: str | None = None
    user: str | None = None
    dimensions: SmallInteger | None = None
