"""The bodies of requests for relevance, scores and classes: Jina's, Cohere's and vLLM's fields."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from banyan.gateway.wire.body import RequestBody, SmallInteger, TokenId


class TruncationField(RequestBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a prompt may become: -1 cuts it to what the model takes, null refuses it."""

    truncate_prompt_tokens: SmallInteger | None = None


class RerankDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A document as an object."""

    text: str


class RerankRequest(TruncationField, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/rerank`."""

    not_served: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "rank_fields": ([], ["text"]),
        "max_chunks_per_doc": (1,),
    }

    model: str
    query: str
    documents: list[str | RerankDocument]
    top_n: SmallInteger | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: SmallInteger | None = None
    user: str | None = None
    # Known, not served.
    rank_fields: list[str] | None = None
    max_chunks_per_doc: SmallInteger | None = None


class ScoreRequest(TruncationField, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/score`: one text against one or many, or as many pairs."""

    model: str
    text_1: str | list[str]
    text_2: str | list[str]
    encoding_format: str | None = None
    user: str | None = None


class ClassifyRequest(TruncationField, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/classify`; the input is like that of an embedding."""

    model: str
    input: str | list[str | TokenId | list[TokenId]]
    user: str | None = None
