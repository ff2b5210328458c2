import struct
from collections.abc import Sequence
from typing import Any

import pytest

from banyan.engine.pooling.prompt import PoolingPrompt
from tests.gateway.scripted import ENCODER, ScriptedBackend, post

PATH = "/v1/embeddings"


def embedding_body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "input": "Hi"} | fields


def encoder() -> ScriptedBackend:
    return ScriptedBackend(status=ENCODER)


def test_vectors_come_as_floats_in_order() -> None:
    reply = post(PATH, embedding_body(input=["a", "bc"]), backend=encoder()).json()
    assert reply["data"] == [
        {"object": "embedding", "index": 0, "embedding": [1.0, -0.5]},
        {"object": "embedding", "index": 1, "embedding": [1.0, -0.5]},
    ]
    assert reply["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_many_inputs_come_back_in_order_from_batches_that_others_can_come_between() -> None:
    sizes: list[int] = []

    class Numbering(ScriptedBackend):
        async def pool(
            self, request_id: str, prompts: Sequence[PoolingPrompt]
        ) -> tuple[bytes, ...]:
            sizes.append(len(prompts))
            return tuple(struct.pack("<f", len(prompt.token_ids)) for prompt in prompts)

    texts = ["x" * (1 + number % 7) for number in range(600)]
    reply = post(PATH, embedding_body(input=texts), backend=Numbering(status=ENCODER)).json()
    assert [item["embedding"] for item in reply["data"]] == [[float(len(text))] for text in texts]
    assert sizes == [256, 256, 88]


def test_vectors_come_as_base64_of_float32_when_asked_for() -> None:
    reply = post(PATH, embedding_body(encoding_format="base64"), backend=encoder()).json()
    assert reply["data"][0]["embedding"] == "AACAPwAAAL8="


@pytest.mark.parametrize(
    ("fields", "parameter", "words"),
    [
        ({"encoding_format": "hex"}, "encoding_format", "'hex'"),
        ({"dimensions": 3}, "dimensions", "not served"),
        ({"input": "x" * 17}, "input", "at most 16"),
        ({"input": []}, "input", "empty list"),
        ({"input": ["a"] * 2049}, "input", "2049 prompts; one request takes at most 2048"),
    ],
)
def test_what_cannot_be_served_is_refused(
    fields: dict[str, Any], parameter: str, words: str
) -> None:
    response = post(PATH, embedding_body(**fields), backend=encoder())
    assert response.status_code == 400
    assert response.json()["error"]["param"] == parameter
    assert words in response.json()["error"]["message"]


def test_a_text_model_makes_no_embeddings() -> None:
    response = post(PATH, embedding_body())
    assert response.status_code == 400
    assert (
        "writes text only; for this, serve one that makes embeddings"
        in response.json()["error"]["message"]
    )
