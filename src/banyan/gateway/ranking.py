"""`POST /v1/rerank` and `POST /v1/score`: how well texts fit together, two by two.

A model with a head for pairs reads both texts at once; a model for embeddings reads them one by
one, and the score is the cosine of their vectors.
"""

import math
import time
from collections.abc import Sequence

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.process.status import ModelFacts
from banyan.gateway.body import read_body, unless_hung_up
from banyan.gateway.caller import caller_of_key
from banyan.gateway.errors import refuse
from banyan.gateway.pooling import longest_prompt, num_tokens, numbers_of, rows_of
from banyan.gateway.replies.embeddings import EmbeddingUsage
from banyan.gateway.replies.pooling import (
    PairScore,
    RerankedText,
    RerankReply,
    RerankResult,
    ScoreReply,
)
from banyan.gateway.services import Services, in_thread, new_id, now_seconds
from banyan.gateway.wire.parsing import parse_request
from banyan.gateway.wire.pooling import RerankRequest, ScoreRequest
from banyan.models.classifier import apply_activation

# A long query beside many documents is read anew for each: a body of megabytes would keep a thread
# busy for an hour, and a few of them all threads that read text.
_MOST_CHARACTERS = 2**25

# Cohere's limit for the documents of one request.
MOST_PAIRS = 1000


def ranking_routes(services: Services) -> APIRouter:
    """Build the router of this module."""
    router = APIRouter()

    @router.post("/v1/rerank")
    @router.post("/v2/rerank")
    @router.post("/rerank")
    async def rerank(request: Request) -> Response:
        return await _rerank(services, request)

    @router.post("/v1/score")
    @router.post("/score")
    async def score(request: Request) -> Response:
        return await _score(services, request)

    return router


async def _rerank(services: Services, request: Request) -> Response:
    arrived = time.perf_counter()
    body = await read_body(request, limit_bytes=services.settings.max_body_bytes)
    asked = parse_request(body, RerankRequest)
    services.adapter_of(asked.model)
    model = services.ready_model("classifier", "embedder")
    texts = [item if isinstance(item, str) else item.text for item in asked.documents]
    if not texts:
        raise refuse("documents is an empty list; send at least one", parameter="documents")
    if asked.top_n is not None and asked.top_n < 1:
        raise refuse(f"top_n is {asked.top_n}; it must be 1 or more", parameter="top_n")
    cut_to = asked.truncate_prompt_tokens
    if cut_to is None:  # reranking cuts what is too long, as Jina and Cohere do
        cut_to = asked.max_tokens_per_doc or -1
    pairs = [(asked.query, text) for text in texts]
    scorer = _Scorer(
        services,
        model,
        longest_prompt(cut_to, model),
        field_name="documents",
        caller=caller_of_key(request),
        arrived=arrived,
    )
    scores, count = await unless_hung_up(request.receive, scorer.scores(pairs))
    best = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[: asked.top_n]
    reply = RerankReply(
        id=new_id("rerank"),
        model=asked.model,
        usage=EmbeddingUsage(count, count),
        results=[
            RerankResult(
                index=index,
                relevance_score=scores[index],
                document=RerankedText(texts[index]) if asked.return_documents else None,
            )
            for index in best
        ],
    )
    return Response(msgspec.json.encode(reply), media_type="application/json")


async def _score(services: Services, request: Request) -> Response:
    arrived = time.perf_counter()
    body = await read_body(request, limit_bytes=services.settings.max_body_bytes)
    asked = parse_request(body, ScoreRequest)
    services.adapter_of(asked.model)
    model = services.ready_model("classifier", "embedder")
    pairs = _paired(asked.text_1, asked.text_2)
    limit = longest_prompt(asked.truncate_prompt_tokens, model)
    is_cut = asked.truncate_prompt_tokens is not None
    scorer = _Scorer(
        services,
        model,
        limit,
        field_name="text_2",
        caller=caller_of_key(request),
        arrived=arrived,
        is_cut=is_cut,
    )
    scores, count = await unless_hung_up(request.receive, scorer.scores(pairs))
    reply = ScoreReply(
        id=new_id("score"),
        created=now_seconds(),
        model=asked.model,
        data=[PairScore(index=index, score=score) for index, score in enumerate(scores)],
        usage=EmbeddingUsage(count, count),
    )
    return Response(msgspec.json.encode(reply), media_type="application/json")


def _paired(first: str | list[str], second: str | list[str]) -> list[tuple[str, str]]:
    """Pair one text with each of several, or several with as many."""
    left = [first] if isinstance(first, str) else first
    right = [second] if isinstance(second, str) else second
    if not left or not right:
        name = "text_2" if left else "text_1"
        raise refuse(f"{name} is an empty list; send at least one text", parameter=name)
    if len(left) == 1:
        left = left * len(right)
    if len(left) != len(right):
        raise refuse(
            f"text_1 has {len(left)} texts and text_2 has {len(right)}; send one text and many, "
            "or as many of both",
            parameter="text_2",
        )
    return list(zip(left, right, strict=True))


class _Scorer:
    """Scores pairs with the model that is served."""

    def __init__(
        self,
        services: Services,
        model: ModelFacts,
        max_tokens: int,
        *,
        field_name: str,
        caller: str,
        arrived: float,
        is_cut: bool = True,
    ) -> None:
        self._caller = caller
        self._arrived = arrived
        self._services = services
        self._model = model
        self._max_tokens = max_tokens
        self._field_name = field_name
        self._is_cut = is_cut

    async def scores(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[float], int]:
        """Give a score for each pair, and how many tokens were read."""
        if len(pairs) > MOST_PAIRS:
            raise refuse(
                f"{self._field_name} has {len(pairs)} texts; one request takes at most "
                f"{MOST_PAIRS}",
                parameter=self._field_name,
            )
        if self._model.kind == "embedder":
            return await self._by_vectors(pairs)
        return await self._by_labels(pairs)

    async def _by_labels(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[float], int]:
        num_characters = sum(len(first) + len(second) for first, second in pairs)
        if num_characters > _MOST_CHARACTERS:
            raise refuse(
                f"the pairs hold {num_characters} characters, the text they share counted each "
                f"time; one request takes at most {_MOST_CHARACTERS}",
                parameter=self._field_name,
            )
        classifier = self._services.classifier()
        text = self._services.text
        # One more than fits shows which pairs would have to be cut.
        limit = self._max_tokens if self._is_cut else self._max_tokens + 1

        def encode() -> list[PoolingPrompt]:
            return [text.encode_pair(*pair, max_tokens=limit) for pair in pairs]

        prompts = await in_thread(encode)
        self._refuse_long(prompts)
        rows = await self._rows(prompts)
        scores = [apply_activation(numbers_of(row), classifier.relevance)[0] for row in rows]
        return scores, num_tokens(prompts)

    async def _by_vectors(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[float], int]:
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        limit = self._max_tokens if self._is_cut else self._max_tokens + 1
        model_text = self._services.text

        def encode() -> list[PoolingPrompt]:
            return [PoolingPrompt(tuple(model_text.encode_cut(t, max_tokens=limit))) for t in texts]

        prompts = await in_thread(encode)
        self._refuse_long(prompts)
        rows = await self._rows(prompts)
        vectors = {text: numbers_of(row) for text, row in zip(texts, rows, strict=True)}
        return [cosine(vectors[left], vectors[right]) for left, right in pairs], num_tokens(prompts)

    async def _rows(self, prompts: Sequence[PoolingPrompt]) -> list[bytes]:
        return await rows_of(
            self._services, prompts, prefix="score", caller=self._caller, arrived=self._arrived
        )

    def _refuse_long(self, prompts: Sequence[PoolingPrompt]) -> None:
        for prompt in prompts:
            self._services.check_length(
                prompt.token_ids, model=self._model, field_name=self._field_name
            )


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """Give the cosine of the angle between two vectors; 0 when one of them is zero."""
    lengths = math.hypot(*first) * math.hypot(*second)
    return (
        math.fsum(a * b for a, b in zip(first, second, strict=True)) / lengths if lengths else 0.0
    )
