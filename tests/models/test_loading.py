import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from banyan.foundation.errors import ModelError, RequestError
from banyan.models.chat_rendering import ChatRendering
from banyan.models.loading import GenerationDefaults, open_model
from tests.conftest import Checkpoint
from tests.models.checkpoints import change_json

USER = [{"role": "user", "content": "Hi"}]


def test_a_decoder_directory_is_opened_with_all_its_parts(checkpoint: Checkpoint) -> None:
    model = open_model(str(checkpoint("llama")))
    assert model.decoder_configuration().num_layers == 2
    assert model.generation == GenerationDefaults((2, 0), temperature=0.7, top_p=0.8)
    assert model.pooling is None
    prompt = model.render_chat(USER)
    assert prompt == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert model.tokenizer.encode(prompt, add_special_tokens=False)[0] == 1
    assert "model.norm.weight" in model.open_weights().names()


def test_without_a_generation_file_the_end_token_is_that_of_the_model(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    directory = shutil.copytree(checkpoint("llama"), tmp_path / "llama")
    (directory / "generation_config.json").unlink()
    assert open_model(str(directory)).generation == GenerationDefaults((2,))


def test_a_proposed_top_k_is_read_and_checked(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = shutil.copytree(checkpoint("llama"), tmp_path / "llama")
    change_json(directory / "generation_config.json", top_k=0)
    assert open_model(str(directory)).generation.top_k == 0
    change_json(directory / "generation_config.json", top_k="many")
    with pytest.raises(ModelError, match=r"generation_config\.json: 'top_k' must be an integer"):
        open_model(str(directory))


def test_an_encoder_and_a_decoder_are_not_taken_for_each_other(checkpoint: Checkpoint) -> None:
    encoder, decoder = open_model(str(checkpoint("bert"))), open_model(str(checkpoint("llama")))
    assert encoder.encoder_configuration().hidden_size == 64
    assert encoder.pooling is not None
    with pytest.raises(ModelError, match=r"is an encoder \(BertModel\) and writes no text"):
        encoder.decoder_configuration()
    with pytest.raises(ModelError, match=r"is a text model \(LlamaForCausalLM\)"):
        decoder.encoder_configuration()


def test_a_model_without_a_template_sends_its_caller_to_completions(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    directory = shutil.copytree(checkpoint("llama"), tmp_path / "llama")
    change_json(directory / "tokenizer_config.json", chat_template=None)
    with pytest.raises(RequestError, match=r"has no chat template; send .* to /v1/completions"):
        open_model(str(directory)).render_chat(USER)


def test_a_directory_without_a_tokenizer_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    directory = shutil.copytree(checkpoint("llama"), tmp_path / "llama")
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"holds no tokenizer\.json"):
        open_model(str(directory))


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json does not exist; the model directory is"):
        open_model(str(tmp_path))


def test_opening_a_model_and_reading_weights_imports_no_torch(checkpoint: Checkpoint) -> None:
    code = (
        "import sys\n"
        "from banyan.models.loading import open_model\n"
        f"model = open_model({str(checkpoint('llama'))!r})\n"
        "model.open_weights().read('model.norm.weight')\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "assert 'transformers' not in sys.modules, 'transformers was imported'\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr


def test_a_template_of_the_caller_works_without_one_of_the_model(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    directory = shutil.copytree(checkpoint("llama"), tmp_path / "llama")
    change_json(directory / "tokenizer_config.json", chat_template=None)
    rendering = ChatRendering(template="{{ messages[0].content }}{{ eos_token }}")
    assert open_model(str(directory)).render_chat(USER, rendering) == "Hi<|im_end|>"
