"""Relevance and scores, over a backend that scores a pair by the length of its second text."""

import struct
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.gateway.ranking import cosine
from banyan.models.classifier import Classifier
from tests.gateway.scripted import CLASSIFIER, ENCODER, READY, ScriptedBackend, post

RELEVANCE = Classifier(("relevance",), probability="sigmoid", relevance="identity")


class Counting(ScriptedBackend):
    """Gives the number of tokens of the second text, or [1, tokens] to a model of vectors."""

    def __init__(self, status: Any = CLASSIFIER) -> None:
        super().__init__(status=status)
        self.prompts: list[PoolingPrompt] = []

    async def pool(
        self, request_id: str, prompts: Sequence[PoolingPrompt], *, caller: str = ""
    ) -> tuple[bytes, ...]:
        self.prompts += prompts
        if self.status() == ENCODER:
            return tuple(struct.pack("<2f", 1, len(prompt.token_ids) - 1) for prompt in prompts)
        return tuple(struct.pack("<f", sum(prompt.token_types)) for prompt in prompts)


def ask(path: str, backend: ScriptedBackend | None = None, **fields: Any) -> httpx.Response:
    chosen = backend or Counting()
    return post(path, {"model": "tiny"} | fields, backend=chosen, classifier=RELEVANCE)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_documents_come_back_best_first_with_their_places(path: str) -> None:
    reply = ask(path, query="q", documents=["aa", {"text": "aaaa"}, "a", "aa"]).json()
    assert reply["results"] == [
        {"index": 1, "relevance_score": 4.0},
        {"index": 0, "relevance_score": 2.0},
        {"index": 3, "relevance_score": 2.0},
        {"index": 2, "relevance_score": 1.0},
    ]
    assert reply["usage"] == {"prompt_tokens": 17, "total_tokens": 17}
    assert reply["model"] == "tiny"


def test_only_the_best_come_back_with_their_text_when_asked_for() -> None:
    fields: dict[str, Any] = {
        "query": "q",
        "documents": ["a", "aaa"],
        "top_n": 1,
        "return_documents": True,
    }
    results = ask("/v1/rerank", **fields).json()["results"]
    assert results == [{"index": 1, "relevance_score": 3.0, "document": {"text": "aaa"}}]


def test_long_documents_are_cut_in_reranking() -> None:
    backend = Counting()
    assert ask("/v1/rerank", backend, query="q", documents=["a" * 40]).status_code == 200
    assert len(backend.prompts[0].token_ids) == 16
    ask("/v1/rerank", backend, query="q", documents=["a" * 40], truncate_prompt_tokens=5)
    ask("/v1/rerank", backend, query="q", documents=["a" * 40], max_tokens_per_doc=6)
    assert [len(prompt.token_ids) for prompt in backend.prompts[1:]] == [5, 6]


def test_one_text_is_scored_against_many_and_many_against_as_many() -> None:
    reply = ask("/v1/score", text_1="q", text_2=["a", "aaa"]).json()
    assert reply["data"] == [
        {"index": 0, "object": "score", "score": 1.0},
        {"index": 1, "object": "score", "score": 3.0},
    ]
    backend = Counting()
    ask("/score", backend, text_1=["q", "r"], text_2=["a", "b"])
    assert [bytes(prompt.token_ids) for prompt in backend.prompts] == [b"q\0a", b"r\0b"]


def test_a_model_of_vectors_scores_by_the_cosine() -> None:
    reply = ask("/v1/score", Counting(ENCODER), text_1="a", text_2=["a", "bb"]).json()
    assert [item["score"] for item in reply["data"]] == pytest.approx([1.0, 0.7071068])
    ranked = ask("/v1/rerank", Counting(ENCODER), query="a", documents=["bb", "a"]).json()
    assert [item["index"] for item in ranked["results"]] == [1, 0]


def test_zeros_have_no_direction() -> None:
    assert cosine([0.0, 0.0], [1.0, 0.0]) == 0.0


@pytest.mark.parametrize(
    ("path", "fields", "parameter", "words"),
    [
        ("/v1/rerank", {"query": "q", "documents": []}, "documents", "empty list"),
        ("/v1/rerank", {"query": "q"}, "documents", "required"),
        ("/v1/rerank", {"query": "q", "documents": ["a"], "top_n": 0}, "top_n", "1 or more"),
        ("/v1/rerank", {"query": "q", "documents": ["a"] * 1001}, "documents", "at most 1000"),
        (
            "/v1/rerank",
            {"query": "q", "documents": ["a"], "truncate_prompt_tokens": 17},
            "truncate_prompt_tokens",
            "from 1 to 16",
        ),
        (
            "/v1/rerank",
            {"query": "q", "documents": ["a"], "rank_fields": ["title"]},
            "rank_fields",
            "not served",
        ),
        ("/v1/score", {"text_1": ["a", "b"], "text_2": ["a"]}, "text_2", "2 texts and text_2"),
        ("/v1/score", {"text_1": [], "text_2": ["a"]}, "text_1", "empty list"),
        ("/v1/score", {"text_1": "a", "text_2": []}, "text_2", "empty list"),
        ("/v1/score", {"text_1": "a", "text_2": "b" * 40}, "text_2", "at most 16"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    path: str, fields: dict[str, Any], parameter: str, words: str
) -> None:
    response = ask(path, **fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == parameter
    assert words in response.json()["error"]["message"]


def test_a_long_text_is_cut_in_scores_when_asked_for() -> None:
    fields: dict[str, Any] = {"text_1": "a", "text_2": "b" * 40, "truncate_prompt_tokens": -1}
    assert ask("/v1/score", **fields).json()["usage"]["prompt_tokens"] == 16


def test_a_long_query_is_not_read_anew_for_many_documents() -> None:
    reply = ask("/v1/rerank", query="x" * 40_000, documents=["a"] * 1000)
    assert reply.status_code == 400
    assert "40001000 characters" in reply.json()["error"]["message"]


def test_a_model_that_writes_ranks_nothing() -> None:
    response = ask("/v1/rerank", ScriptedBackend(status=READY), query="q", documents=["a"])
    assert response.status_code == 400
    assert "writes text only" in response.json()["error"]["message"]
