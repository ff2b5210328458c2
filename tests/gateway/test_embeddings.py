import asyncio
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.gateway.caller import caller_name
from tests.gateway.scripted import ENCODER, ScriptedBackend, connect, post

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
            self, request_id: str, prompts: Sequence[PoolingPrompt], *, caller: str = ""
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
        ({"dimensions": 3}, "dimensions", "have 1 to 2"),
        ({"dimensions": 0}, "dimensions", "have 1 to 2"),
        ({"truncate_prompt_tokens": 17}, "truncate_prompt_tokens", "from 1 to 16"),
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


def test_a_shortened_vector_has_length_one_in_both_encodings() -> None:
    reply = post(PATH, embedding_body(dimensions=1), backend=encoder()).json()
    assert reply["data"][0]["embedding"] == [1.0]
    packed = embedding_body(dimensions=1, encoding_format="base64")
    assert post(PATH, packed, backend=encoder()).json()["data"][0]["embedding"] == "AACAPw=="
    both = post(PATH, embedding_body(dimensions=2), backend=encoder()).json()
    assert both["data"][0]["embedding"] == pytest.approx([0.8944272, -0.4472136])


@pytest.mark.parametrize(("cut_to", "count"), [(-1, 16), (5, 5), (16, 16)])
def test_long_texts_are_cut_when_asked_for(cut_to: int, count: int) -> None:
    for text in ("x" * 40, [[7] * 40]):
        body = embedding_body(input=text, truncate_prompt_tokens=cut_to)
        reply = post(PATH, body, backend=encoder()).json()
        assert reply["usage"]["prompt_tokens"] == count


def test_a_text_model_makes_no_embeddings() -> None:
    response = post(PATH, embedding_body())
    assert response.status_code == 400
    assert (
        "writes text only; for this, serve one that makes embeddings"
        in response.json()["error"]["message"]
    )


def test_the_engine_is_told_who_asks() -> None:
    backend = ScriptedBackend(status=ENCODER)

    async def exchange() -> None:
        async with connect(backend) as client:
            headers = {"authorization": "Bearer key"}
            assert (await client.post(PATH, json=embedding_body(), headers=headers)).is_success

    asyncio.run(exchange())
    assert backend.callers == [caller_name("key", "")]
