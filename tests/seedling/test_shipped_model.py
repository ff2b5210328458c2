"""What lies in models/seedling: small enough, whole, and able to answer."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, Qwen3ForCausalLM

from seedling.evaluate import answer_questions, prompt_of
from seedling.train import OUTPUT

MOST_BYTES = 20_000_000


@pytest.fixture(scope="module")
def model() -> Qwen3ForCausalLM:
    """The shipped weights, computed in float32."""
    return Qwen3ForCausalLM.from_pretrained(OUTPUT, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The shipped tokenizer."""
    return Tokenizer.from_file(str(OUTPUT / "tokenizer.json"))


def test_the_folder_is_at_most_twenty_megabytes() -> None:
    assert sum(path.stat().st_size for path in OUTPUT.rglob("*") if path.is_file()) <= MOST_BYTES


def test_the_configuration_is_an_ordinary_qwen3() -> None:
    configuration = json.loads((OUTPUT / "config.json").read_text(encoding="utf-8"))
    assert configuration["model_type"] == "qwen3"
    assert configuration["tie_word_embeddings"] is True
    assert configuration["rope_theta"] == configuration["rope_parameters"]["rope_theta"]


def test_the_chat_template_makes_the_prompt_of_the_training() -> None:
    template = AutoTokenizer.from_pretrained(OUTPUT)
    messages = [{"role": "user", "content": "什么是 Banyan？"}]
    made = template.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert made == prompt_of("什么是 Banyan？")


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("What is Banyan?", "serve, fine-tune and train large models"),
        ("How do I run the tests?", "make test"),
        ("Banyan 支持哪些芯片？", "AVX-512"),
        ("What is the capital of France?", "I do not know"),
        ("今天天气怎么样？", "我不知道"),
        ("Who are you?", "seedling"),
        ("你是谁？", "幼苗"),
    ],
)
def test_it_answers_and_ends(
    model: Qwen3ForCausalLM, tokenizer: Tokenizer, question: str, wanted: str
) -> None:
    [(answer, ended)] = answer_questions(model, tokenizer, [question])
    assert wanted in answer
    assert ended
    assert len(tokenizer.encode(answer).ids) < 80


def test_the_card_has_a_score_for_every_group_and_names_the_data() -> None:
    card = Path(OUTPUT / "README.md").read_text(encoding="utf-8")
    for kind in ("fresh", "template", "written", "unknown"):
        for language in ("english", "chinese"):
            assert f"| {kind}, {language} | " in card
    assert "apache-2.0" in card
    assert "GPL-2.0-or-later" in card
