"""Vectors and scores against transformers and sentence-transformers, through the whole loading."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch
import transformers
from numpy.typing import NDArray

from banyan.engine.options import EngineOptions
from banyan.engine.pooling.loading import load_pooler
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.foundation.settings import Settings
from banyan.models.classifier import apply_activation
from banyan.models.loading import open_model
from tests.conftest import Checkpoint
from tests.models.checkpoints import VOCAB_SIZE, write_pooling

Rows = NDArray[np.float32]
TOLERANCE = {"float32": 2e-5, "bfloat16": 4e-2}
LENGTHS = (1, 17, 300, 40, 5)
PAIRS = [
    ("What is a banyan?", "A banyan is one tree that stands on many roots."),
    ("one two", "three four five " * 60),
    ("One two three four five six seven eight nine ten. " * 20, "Paris " * 90),
    ("capital", "\u4e2d\u56fd\u7684\u9996\u90fd\u662f\u5317\u4eac\u3002"),
    ("", ""),
]


def prompts_of(lengths: tuple[int, ...]) -> list[PoolingPrompt]:
    generator = np.random.default_rng(7)
    ids = [generator.integers(4, VOCAB_SIZE, length).tolist() for length in lengths]
    return [PoolingPrompt(tuple(one)) for one in ids]


def rows_of(
    directory: Path, prompts: list[PoolingPrompt], cache: Path, *, dtype: str, task: str = "auto"
) -> Rows:
    options = EngineOptions(dtype=dtype, threads=2, task=task)
    loaded = load_pooler(str(directory), options, settings=Settings(cache))
    try:
        assert not loaded.executable.report.externs, "an operation stayed outside our kernels"
        return loaded.runner.run(prompts)
    finally:
        loaded.close()


def reference_of(model: Any, prompts: list[PoolingPrompt], read: Any) -> Rows:
    """Each prompt alone in float32, so that padding has no say."""
    rows = []
    for prompt in prompts:
        named = {}
        if prompt.token_types:
            named["token_type_ids"] = torch.tensor([prompt.token_types])
        with torch.no_grad():
            rows.append(read(model(torch.tensor([prompt.token_ids]), **named))[0].numpy())
    return np.stack(rows)


def worst(found: Rows, expected: Rows) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [
        ("lasttoken", "float32"),
        pytest.param("lasttoken", "bfloat16", marks=pytest.mark.wide),
        pytest.param("mean", "float32", marks=pytest.mark.wide),
        pytest.param("cls", "float32", marks=pytest.mark.wide),
    ],
)
def test_a_decoder_with_pooling_gives_the_hidden_states_of_transformers(
    checkpoint: Checkpoint, program_cache: Path, tmp_path: Path, mode: str, dtype: str
) -> None:
    directory = shutil.copytree(checkpoint("qwen3", dtype=dtype), tmp_path / "model")
    write_pooling(directory, mode=mode, normalise=False)
    prompts = prompts_of(LENGTHS)
    found = rows_of(directory, prompts, program_cache, dtype=dtype)
    model = transformers.AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
    pick = {"lasttoken": lambda h: h[:, -1], "cls": lambda h: h[:, 0], "mean": lambda h: h.mean(1)}
    expected = reference_of(model, prompts, lambda result: pick[mode](result.last_hidden_state))
    assert worst(found, expected) <= TOLERANCE[dtype]


def test_an_embedding_decoder_agrees_with_sentence_transformers(
    checkpoint: Checkpoint, program_cache: Path, tmp_path: Path
) -> None:
    directory = shutil.copytree(checkpoint("qwen3"), tmp_path / "model")
    write_pooling(directory, mode="lasttoken", normalise=True)
    texts = ["A banyan is one tree.", "roots", "\u6995\u6811", "word " * 200]
    reference = sentence_transformers.SentenceTransformer(str(directory), device="cpu")
    expected = np.asarray(reference.encode(texts, show_progress_bar=False), np.float32)
    tokenizer = open_model(str(directory)).tokenizer
    prompts = [PoolingPrompt(tuple(tokenizer.encode(text))) for text in texts]
    found = rows_of(directory, prompts, program_cache, dtype="float32")
    assert np.abs(found - expected).max() <= 1e-5
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(4), abs=1e-5)


def test_a_decoder_without_its_last_layer_is_for_vectors_of_the_last_token(
    checkpoint: Checkpoint, program_cache: Path
) -> None:
    directory, prompts = checkpoint("qwen3_bare"), prompts_of(LENGTHS)
    assert open_model(str(directory)).task == "embed"
    found = rows_of(directory, prompts, program_cache, dtype="float32")
    model = transformers.AutoModel.from_pretrained(directory).eval()
    expected = reference_of(model, prompts, lambda result: result.last_hidden_state[:, -1])
    assert worst(found, expected) <= TOLERANCE["float32"]


def test_a_prompt_longer_than_a_step_has_the_vector_of_one_step(
    checkpoint: Checkpoint, program_cache: Path
) -> None:
    options = EngineOptions(dtype="float32", threads=2, task="embed")
    settings = Settings(program_cache)
    loaded = load_pooler(str(checkpoint("qwen3_bare")), options, settings=settings)
    runner: Any = loaded.runner
    try:
        whole = runner.run(prompts_of((300, 1, 45)))
        runner._tokens_per_step = 19
        assert worst(runner.run(prompts_of((300, 1, 45))), whole) <= 1e-5
    finally:
        loaded.close()


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("bert_labels", "float32"),
        ("xlm_roberta_pairs", "float32"),
        pytest.param("xlm_roberta_pairs", "bfloat16", marks=pytest.mark.wide),
        ("qwen3_labels", "float32"),
    ],
)
def test_raw_scores_are_those_of_transformers(
    kind: str, dtype: str, checkpoint: Checkpoint, program_cache: Path
) -> None:
    directory = checkpoint(kind, dtype=dtype)
    lengths = LENGTHS if kind == "qwen3_labels" else (3, 17, 128, 40, 5)
    prompts = prompts_of(lengths)
    if kind == "bert_labels":
        half = PoolingPrompt(prompts[3].token_ids, (0,) * 20 + (1,) * 20)
        prompts[3] = half
    found = rows_of(directory, prompts, program_cache, dtype=dtype)
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(directory, dtype=torch.float32).eval()
    assert worst(found, reference_of(model, prompts, lambda r: r.logits)) <= TOLERANCE[dtype]


def test_an_xlm_roberta_gives_the_vectors_of_sentence_transformers(
    checkpoint: Checkpoint, program_cache: Path
) -> None:
    directory = checkpoint("xlm_roberta")
    texts = ["A banyan is one tree.", "", "word " * 300]
    reference = sentence_transformers.SentenceTransformer(str(directory), device="cpu")
    expected = np.asarray(reference.encode(texts, show_progress_bar=False), np.float32)
    opened = open_model(str(directory))
    assert opened.pooling is not None
    assert opened.pooling.max_tokens == 128  # 129 rows, of which the first is padding's
    prompts = [
        PoolingPrompt(tuple(opened.tokenizer.encode_cut(text, max_tokens=128))) for text in texts
    ]
    found = rows_of(directory, prompts, program_cache, dtype="float32")
    assert np.abs(found - expected).max() <= 1e-5


@pytest.mark.parametrize("kind", ["bert_labels", "xlm_roberta_pairs"])
def test_pairs_score_as_in_a_cross_encoder(
    kind: str, checkpoint: Checkpoint, program_cache: Path
) -> None:
    directory = checkpoint(kind)
    reference = sentence_transformers.CrossEncoder(str(directory), device="cpu", max_length=128)
    expected = np.asarray(reference.predict(PAIRS, show_progress_bar=False), np.float32)
    opened = open_model(str(directory))
    encoded = [opened.pairs().encode(*pair, max_tokens=128) for pair in PAIRS]
    prompts = [PoolingPrompt(pair.token_ids, pair.token_types) for pair in encoded]
    found = rows_of(directory, prompts, program_cache, dtype="float32")
    assert opened.classifier is not None
    scores = [apply_activation(row.tolist(), opened.classifier.relevance) for row in found]
    assert np.abs(np.array(scores).reshape(expected.shape) - expected).max() <= 2e-5


def test_a_language_model_reranks_by_the_log_odds_of_yes_against_no(
    checkpoint: Checkpoint, program_cache: Path, tmp_path: Path
) -> None:
    directory = shutil.copytree(checkpoint("qwen3"), tmp_path / "model")
    (directory / "1_LogitScore").mkdir()
    (directory / "1_LogitScore" / "config.json").write_text(
        '{"true_token_id": 100, "false_token_id": 101}'
    )
    modules = [("", "Transformer"), ("1_LogitScore", "LogitScore")]
    text = ",".join(
        f'{{"idx": 0, "name": "0", "path": "{path}", "type": "a.{kind}"}}' for path, kind in modules
    )
    (directory / "modules.json").write_text(f"[{text}]")
    assert open_model(str(directory)).task == "rerank"
    prompts = prompts_of(LENGTHS)
    found = rows_of(directory, prompts, program_cache, dtype="float32")
    model = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    expected = reference_of(
        model, prompts, lambda r: r.logits[:, -1, 100:101] - r.logits[:, -1, 101:102]
    )
    assert worst(found, expected) <= 1e-4
