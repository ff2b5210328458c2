import struct
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.models.classifier import Classifier
from tests.gateway.scripted import CLASSIFIER, ENCODER, ScriptedBackend, post

MOODS = Classifier(("dull", "odd", "fine"), probability="softmax", relevance="identity")


class ByLength(ScriptedBackend):
    """The score of a label is 2 when its number is the length of the text."""

    async def pool(
        self, request_id: str, prompts: Sequence[PoolingPrompt], *, caller: str = ""
    ) -> tuple[bytes, ...]:
        lengths = [len(prompt.token_ids) for prompt in prompts]
        return tuple(
            struct.pack("<3f", *(2.0 * (label == length) for label in range(3)))
            for length in lengths
        )


def ask(path: str = "/v1/classify", status: Any = CLASSIFIER, **fields: Any) -> httpx.Response:
    backend = ByLength(status=status)
    return post(path, {"model": "tiny"} | fields, backend=backend, classifier=MOODS)


@pytest.mark.parametrize("path", ["/v1/classify", "/classify"])
def test_each_text_gets_its_likeliest_label_and_all_probabilities(path: str) -> None:
    reply = ask(path, input=["a", "bb"]).json()
    assert [item["label"] for item in reply["data"]] == ["odd", "fine"]
    assert reply["data"][0]["probs"] == pytest.approx([0.1065070, 0.7869860, 0.1065070])
    assert reply["data"][0]["num_classes"] == 3
    assert reply["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_token_ids_are_taken_as_they_are_and_long_ones_cut_when_asked_for() -> None:
    assert ask(input=[5, 6]).json()["data"][0]["label"] == "fine"
    cut = ask(input=[5] * 40, truncate_prompt_tokens=1).json()
    assert cut["data"][0]["label"] == "odd"


@pytest.mark.parametrize(
    ("fields", "status", "parameter", "words"),
    [
        ({"input": "x" * 17}, CLASSIFIER, "input", "at most 16"),
        ({"input": ""}, CLASSIFIER, "input", "empty"),
        ({"input": "x"}, ENCODER, "model", "makes embeddings only"),
    ],
)
def test_what_cannot_be_classified_is_refused(
    fields: dict[str, Any], status: Any, parameter: str, words: str
) -> None:
    response = ask(status=status, **fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == parameter
    assert words in response.json()["error"]["message"]


def test_a_model_without_labels_says_so() -> None:
    body = {"model": "tiny", "input": "x"}
    response = post("/v1/classify", body, backend=ByLength(status=CLASSIFIER))
    assert response.status_code == 400
    assert "no labels" in response.json()["error"]["message"]
