"""Replies of `POST /v1/rerank`, `/v1/score` and `/v1/classify`."""

import msgspec

from banyan.gateway.replies.embeddings import EmbeddingUsage


class RerankedText(msgspec.Struct, frozen=True):
    """A document given back."""

    text: str


class RerankResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One document: its place in the request and how well it answers the query."""

    index: int
    relevance_score: float
    document: RerankedText | None = None


class RerankReply(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of `POST /v1/rerank`, best first."""

    id: str
    model: str
    usage: EmbeddingUsage
    results: list[RerankResult]


class PairScore(msgspec.Struct, frozen=True, kw_only=True):
    """The score of one pair."""

    index: int
    object: str = "score"
    score: float


class ScoreReply(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of `POST /v1/score`."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[PairScore]
    usage: EmbeddingUsage


class TextClass(msgspec.Struct, frozen=True, kw_only=True):
    """The likeliest label of one text, and the probability of every label in order."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class ClassifyReply(msgspec.Struct, frozen=True, kw_only=True):
    """The reply of `POST /v1/classify`."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[TextClass]
    usage: EmbeddingUsage
