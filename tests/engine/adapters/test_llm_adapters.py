"""Adapters through `LLM`: the tokens of transformers and peft, merged, beside each other."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from banyan import LLM, SamplingOptions
from banyan.foundation.errors import InputError, ModelError, RequestError
from banyan.models.adapters.reading import read_adapter
from banyan.models.loading import open_model
from tests.conftest import Checkpoint
from tests.models.adapters.files import make_adapter
from tests.models.quantisation.packers import MIXED, write_pair

GREEDY = SamplingOptions(temperature=0.0, max_tokens=12, ignore_eos=True)
PROMPT = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]


def tokens_of_peft(base: Path, adapter: Path | None) -> list[int]:
    """What transformers writes greedily with an adapter merged by peft."""
    peft = pytest.importorskip("peft")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload()
    model.generation_config = transformers.GenerationConfig(pad_token_id=0)
    prompt = torch.tensor([PROMPT])
    with torch.no_grad():
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=12,
            min_new_tokens=12,
        )
    return [int(token_id) for token_id in out[0, len(PROMPT) :]]


def test_adapters_in_one_batch_write_what_peft_writes(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    base = checkpoint("qwen3")
    configuration = open_model(str(base)).decoder_configuration()
    paths = {}
    for number, modules in enumerate([("q_proj", "v_proj"), ("down_proj", "gate_proj")]):
        name = f"adapter-{number}"
        paths[name] = make_adapter(
            tmp_path / name, configuration, modules=modules, seed=number, size=0.2
        )
    with LLM(base, dtype="float32", threads=2, max_model_len=64, enable_lora=True) as llm:
        for name, path in paths.items():
            llm.load_adapter(name, path)
        names = [None, *paths, None, *paths]
        found = llm.generate([PROMPT] * len(names), GREEDY, adapter=names)
        for chosen, output in zip(names, found, strict=True):
            wanted = tokens_of_peft(base, None if chosen is None else paths[chosen])
            assert list(output.outputs[0].token_ids) == wanted, chosen
        assert len({tuple(output.outputs[0].token_ids) for output in found}) == 3

        with pytest.raises(InputError, match="'adapter-0' is already loaded"):
            llm.load_adapter("adapter-0", paths["adapter-0"])
        llm.unload_adapter("adapter-0")
        with pytest.raises(RequestError, match="no adapter 'adapter-0'"):
            llm.generate([PROMPT], GREEDY, adapter="adapter-0")
        llm.load_adapter("adapter-0", paths["adapter-1"])
        again = llm.generate([PROMPT], GREEDY, adapter="adapter-0")
        assert again[0].outputs[0].token_ids == found[2].outputs[0].token_ids
        with pytest.raises(InputError, match="2 prompts but 1 adapters"):
            llm.generate([PROMPT, PROMPT], GREEDY, adapter=["adapter-0"])
        with pytest.raises(ModelError, match="there is no adapter directory"):
            llm.load_adapter("other", tmp_path / "nothing")


def merged_checkpoint(base: Path, adapter: Path, directory: Path) -> Path:
    """A copy of a checkpoint whose weights have the adapter in, computed here in float64."""
    shutil.copytree(base, directory)
    pairs = read_adapter(adapter, open_model(str(base)).decoder_configuration(), max_rank=16).pairs
    weights = load_file(directory / "model.safetensors")
    for (layer, path), pair in pairs.items():
        name = f"model.layers.{layer}.{path}.weight"
        change = pair.up.astype(np.float64) @ pair.down.astype(np.float64)
        weights[name] = (weights[name].astype(np.float64) + change).astype(np.float32)
    save_file(weights, directory / "model.safetensors")
    return directory


def test_adapters_on_a_quantised_base_write_what_its_merged_weights_write(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    quantised, plain = write_pair(checkpoint("llama"), tmp_path, MIXED)
    path = make_adapter(
        tmp_path / "adapter", open_model(str(plain)).decoder_configuration(), size=0.2
    )
    merged = merged_checkpoint(plain, path, tmp_path / "merged")
    options: dict[str, Any] = {"dtype": "float32", "threads": 2, "max_model_len": 64}
    with LLM(quantised, enable_lora=True, **options) as llm:
        llm.load_adapter("a", path)
        found = llm.generate([PROMPT, PROMPT], GREEDY, adapter=["a", None])
    with LLM(merged, **options) as llm:
        (wanted,) = llm.generate([PROMPT], GREEDY)
    assert found[0].token_ids == wanted.token_ids != found[1].token_ids


def test_factors_in_bytes_need_activations_in_bfloat16(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="lora_dtype='int8' needs a model that computes in bfloat"):
        LLM(checkpoint("qwen3"), dtype="float32", enable_lora=True, lora_dtype="int8")


def test_an_llm_without_room_says_how_to_get_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with LLM(checkpoint("qwen3"), dtype="float32", threads=2, max_model_len=64) as llm:
        with pytest.raises(InputError, match="enable_lora=True"):
            llm.load_adapter("a", tmp_path)
        with pytest.raises(RequestError, match="started without enable_lora"):
            llm.generate([PROMPT], GREEDY, adapter="a")


def test_a_room_that_does_not_fit_into_memory_is_refused_before_loading(
    checkpoint: Checkpoint,
) -> None:
    with pytest.raises(InputError, match="max_loras=4000000 with max_lora_rank=16 takes"):
        LLM(checkpoint("qwen3"), max_model_len=64, enable_lora=True, max_loras=4_000_000)
