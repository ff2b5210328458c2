import json
from pathlib import Path

import pytest

from banyan.foundation.errors import ModelError
from banyan.models.description import describe_model
from tests.conftest import Checkpoint


def bare(checkpoint: Path, folder: Path, **changes: object) -> str:
    """A configuration of its own, without weights or tokenizer."""
    fields = json.loads((checkpoint / "config.json").read_text())
    file = folder / "some_model.json"
    file.write_text(json.dumps(fields | changes))
    return str(file)


def test_a_configuration_is_enough(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = checkpoint("qwen3")
    whole, alone = describe_model(str(directory)), describe_model(bare(directory, tmp_path))
    assert alone.configuration == whole.configuration
    assert alone.weight_dtype == whole.weight_dtype == "float32"


def test_quantised_weights_are_told_by_their_bits(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = checkpoint("llama")
    awq = {"quant_method": "awq", "bits": 4, "group_size": 64}
    file = bare(directory, tmp_path, quantization_config=awq)
    assert describe_model(file).weight_dtype == "int4"
    fp8 = {"quant_method": "fp8"}
    assert describe_model(bare(directory, tmp_path, quantization_config=fp8)).weight_dtype == (
        "float8"
    )


def test_what_is_no_text_model_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    bert = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 8}
    bert |= {"vocab_size": 9, "intermediate_size": 8, "num_hidden_layers": 1}
    bert |= {"num_attention_heads": 1, "max_position_embeddings": 4, "type_vocab_size": 2}
    file = tmp_path / "bert.json"
    file.write_text(json.dumps(bert))
    with pytest.raises(ModelError, match=r"is an encoder .* only models that write text"):
        describe_model(str(file))
    with pytest.raises(ModelError, match=r"config\.json does not exist"):
        describe_model(str(tmp_path))
    with pytest.raises(ModelError, match="there is no model directory 'nowhere'"):
        describe_model("nowhere")
