import json
from pathlib import Path

import pytest

from banyan.foundation.errors import InputError, ModelError
from banyan.models.task import choose_task, read_modules


def choose(directory: Path, architecture: str, asked: str = "auto") -> str:
    is_encoder = architecture.startswith("Bert")
    return choose_task(directory, architecture=architecture, is_encoder=is_encoder, asked=asked)


def write_modules(directory: Path, *kinds: str) -> None:
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": kind} for kind in kinds]
    (directory / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("LlamaForCausalLM", "generate"),
        ("LlamaModel", "embed"),
        ("LlamaForSequenceClassification", "classify"),
        ("BertModel", "embed"),
        ("BertForMaskedLM", "embed"),
        ("BertForSequenceClassification", "classify"),
    ],
)
def test_the_architecture_says_what_a_model_is_for(
    tmp_path: Path, architecture: str, task: str
) -> None:
    assert choose(tmp_path, architecture) == task


def test_a_decoder_with_the_files_of_sentence_transformers_is_for_vectors_or_pairs(
    tmp_path: Path,
) -> None:
    write_modules(tmp_path, "Transformer", "Pooling")
    assert choose(tmp_path, "Qwen3ForCausalLM") == "embed"
    assert choose(tmp_path, "Qwen3ForCausalLM", "generate") == "generate"
    write_modules(tmp_path, "Transformer", "LogitScore")
    assert choose(tmp_path, "Qwen3ForCausalLM") == "rerank"
    assert read_modules(tmp_path)[1] == ("LogitScore", tmp_path / "LogitScore")


def test_a_person_may_choose_among_what_is_possible(tmp_path: Path) -> None:
    assert choose(tmp_path, "LlamaForCausalLM", "rerank") == "rerank"
    assert choose(tmp_path, "BertForSequenceClassification", "rerank") == "rerank"
    with pytest.raises(InputError, match="task='generate' is not possible with BertModel"):
        choose(tmp_path, "BertModel", "generate")


def test_a_damaged_list_of_modules_is_refused(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text('{"a": 1}')
    with pytest.raises(ModelError, match="must hold a list of modules"):
        read_modules(tmp_path)
