"""Vectors, relevance and classes from running servers, by OpenAI's SDK where it has the route."""

import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import sentence_transformers

from tests.conftest import Checkpoint
from tests.end_to_end.servers import running_server
from tests.models.checkpoints import write_pooling

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

OPTIONS = ["--served-model-name", "tiny", "--threads", "2"]
QUERY = "What is a banyan?"
DOCUMENTS = ["A banyan is one tree.", "Paris", "one two three " * 90, ""]


def test_a_decoder_serves_embeddings_shortened_and_packed(
    checkpoint: Checkpoint, program_cache: dict[str, str], tmp_path: Path
) -> None:
    directory = shutil.copytree(checkpoint("qwen3"), tmp_path / "model")
    write_pooling(directory, mode="lasttoken", normalise=True)
    with running_server(str(directory), OPTIONS, environment=program_cache) as server:
        sdk = server.sdk()
        texts = [f"{number} roots " * (1 + number % 9) for number in range(40)]
        with ThreadPoolExecutor(8) as pool:
            alone = pool.map(lambda text: sdk.embeddings.create(model="tiny", input=text), texts)
            vectors = [reply.data[0].embedding for reply in alone]
        together = sdk.embeddings.create(model="tiny", input=texts)  # base64 under the hood
        assert np.allclose(vectors, [item.embedding for item in together.data], atol=1e-5)
        short = sdk.embeddings.create(model="tiny", input=texts[0], dimensions=8).data[0].embedding
        assert math.isclose(math.hypot(*short), 1.0, rel_tol=1e-5)
        scale = math.hypot(*vectors[0][:8])
        assert np.allclose(short, np.array(vectors[0][:8]) / scale, atol=1e-5)


def test_a_cross_encoder_ranks_scores_and_classifies(
    checkpoint: Checkpoint, program_cache: dict[str, str]
) -> None:
    directory = checkpoint("xlm_roberta_pairs")
    reference = sentence_transformers.CrossEncoder(str(directory), device="cpu", max_length=128)
    pairs = [(QUERY, text) for text in DOCUMENTS]
    expected = reference.predict(pairs, show_progress_bar=False)
    with running_server(str(directory), OPTIONS, environment=program_cache) as server:

        def post(path: str, **fields: object) -> httpx.Response:
            return httpx.post(f"{server.url}{path}", json={"model": "tiny"} | fields, timeout=60)

        ranked = post("/v1/rerank", query=QUERY, documents=DOCUMENTS).json()["results"]
        assert [item["index"] for item in ranked] == np.argsort(-expected).tolist()
        for item in ranked:
            assert item["relevance_score"] == pytest.approx(expected[item["index"]], abs=1e-4)
        scored = post("/v1/score", text_1=QUERY, text_2=DOCUMENTS[:2]).json()["data"]
        assert [item["score"] for item in scored] == pytest.approx(expected[:2], abs=1e-4)
        assert post("/v1/score", text_1=QUERY, text_2=DOCUMENTS[2]).status_code == 400
        classes = post("/v1/classify", input="one").json()["data"]
        assert classes[0]["label"] == "LABEL_0"
        assert "gives scores only" in post("/v1/embeddings", input="a").text
