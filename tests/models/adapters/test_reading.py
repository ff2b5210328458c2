"""Adapters are read as PEFT means them, and everything else is refused by name."""

import json
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.adapters.reading import read_adapter
from banyan.models.adapters.targets import known_targets
from banyan.models.configuration import ModelConfiguration, read_configuration
from tests.models.adapters.files import (
    make_adapter,
    make_tensors,
    settings_of,
    tensor_name,
    write_adapter,
)
from tests.models.checkpoints import make_checkpoint

PLACE = (1, "self_attn.q_proj")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint("qwen3", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def model(base: Path) -> ModelConfiguration:
    configuration = read_configuration(base)
    assert isinstance(configuration, ModelConfiguration)
    return configuration


def _change(directory: Path, **changes: Any) -> None:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_every_target_has_both_halves_and_the_scale_is_in_the_second(
    tmp_path: Path, model: ModelConfiguration
) -> None:
    directory = make_adapter(tmp_path / "a", model, rank=4)
    stored = make_tensors(model, rank=4)
    adapter = read_adapter(directory, model, max_rank=16)
    assert set(adapter.pairs) == set(known_targets(model))
    assert (adapter.rank, adapter.base_model) == (4, "some/base")
    pair = adapter.pairs[PLACE]
    np.testing.assert_array_equal(pair.down, stored[tensor_name(*PLACE, "A")])
    np.testing.assert_array_equal(pair.up, 2 * stored[tensor_name(*PLACE, "B")])


def test_an_adapter_saved_by_peft_changes_weights_as_peft_merges_them(
    tmp_path: Path, base: Path, model: ModelConfiguration
) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    whole = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    plain = {name: array.clone() for name, array in whole.state_dict().items()}
    chosen = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=6,
        use_rslora=True,
        target_modules=["q_proj", "down_proj", "v_proj"],
        rank_pattern={"v_proj": 2, r"layers\.1\.self_attn\.q_proj": 8},
        alpha_pattern={"down_proj": 3},
        init_lora_weights=False,
    )
    adapted = peft.get_peft_model(whole, chosen)
    adapted.save_pretrained(tmp_path / "saved")
    merged = adapted.merge_and_unload().state_dict()
    adapter = read_adapter(tmp_path / "saved", model, max_rank=8)
    assert {path for _, path in adapter.pairs} == {
        "self_attn.q_proj",
        "self_attn.v_proj",
        "mlp.down_proj",
    }
    assert adapter.pairs[PLACE].rank == 8
    for (layer, path), pair in adapter.pairs.items():
        name = f"model.layers.{layer}.{path}.weight"
        difference = (merged[name] - plain[name]).numpy()
        np.testing.assert_allclose(pair.up @ pair.down, difference, atol=2e-5)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("use_dora", True),
        ("lora_bias", True),
        ("modules_to_save", ["lm_head"]),
        ("fan_in_fan_out", True),
        ("layer_replication", [[0, 2]]),
        ("alora_invocation_tokens", [1]),
        ("target_parameters", ["x"]),
        ("trainable_token_indices", [5]),
        ("an_option_of_tomorrow", 1),
    ],
)
def test_an_option_that_changes_the_numbers_is_refused_by_name(
    tmp_path: Path, model: ModelConfiguration, option: str, value: Any
) -> None:
    directory = make_adapter(tmp_path / "a", model)
    _change(directory, **{option: value})
    with pytest.raises(UnsupportedModelError, match=option):
        read_adapter(directory, model, max_rank=16)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3'"),
        ({"bias": "all"}, "bias='all'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"r": 64}, r"rank 64, more than max_lora_rank=16; raise"),
        ({"r": 8}, "and rank 8 need"),
        ({"r": 0}, "at least 1"),
        ({"lora_alpha": "x"}, "must be a number"),
        ({"lora_alpha": 10**400}, "must be a number"),
        ({"lora_alpha": 1e40}, "times its scale"),
        ({"target_modules": ["q_proj", "w_proj"]}, "target module 'w_proj'"),
        ({"rank_pattern": {"(a+)+": 4}}, "not supported"),
        ({"rank_pattern": {"(": 4}}, "no regular expression"),
        ({"rank_pattern": {"q_proj": 999}}, "rank 999"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_value(
    tmp_path: Path, model: ModelConfiguration, changes: dict[str, Any], sentence: str
) -> None:
    directory = make_adapter(tmp_path / "a", model)
    _change(directory, **changes)
    with pytest.raises(ModelError, match=sentence):
        read_adapter(directory, model, max_rank=16)


def test_an_adapter_for_a_wider_base_is_refused(tmp_path: Path, model: ModelConfiguration) -> None:
    tensors = make_tensors(model)
    tensors[tensor_name(*PLACE, "A")] = np.zeros((4, 96), np.float32)
    directory = write_adapter(tmp_path / "a", tensors, settings_of())
    with pytest.raises(ModelError, match=r"\[4, 96\].*\[4, 64\]; the adapter was trained on"):
        read_adapter(directory, model, max_rank=16)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (tensor_name(7, "self_attn.q_proj", "A"), "for layer 7, but the model has 2"),
        (tensor_name(0, "mlp.experts.3.gate_proj", "A"), "cannot be adapted; supported are"),
        ("base_model.model.lm_head.lora_A.weight", "no low-rank half"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "no low-rank"),
    ],
)
def test_a_tensor_of_something_else_is_refused_by_name(
    tmp_path: Path, model: ModelConfiguration, name: str, sentence: str
) -> None:
    tensors = {**make_tensors(model), name: np.zeros((4, 64), np.float32)}
    directory = write_adapter(tmp_path / "a", tensors, settings_of())
    with pytest.raises(ModelError, match=sentence):
        read_adapter(directory, model, max_rank=16)


def test_a_layer_with_one_half_only_is_refused(tmp_path: Path, model: ModelConfiguration) -> None:
    tensors = make_tensors(model)
    del tensors[tensor_name(*PLACE, "B")]
    directory = write_adapter(tmp_path / "a", tensors, settings_of())
    with pytest.raises(ModelError, match=r"lacks lora_B of layers\.1\.self_attn\.q_proj"):
        read_adapter(directory, model, max_rank=16)


def test_numbers_that_are_none_are_refused(tmp_path: Path, model: ModelConfiguration) -> None:
    tensors = make_tensors(model)
    tensors[tensor_name(*PLACE, "A")][0, 0] = np.nan
    directory = write_adapter(tmp_path / "a", tensors, settings_of())
    with pytest.raises(ModelError, match="holds NaN or infinity"):
        read_adapter(directory, model, max_rank=16)


class _Trap:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.safetensors"])
def test_a_pickle_is_refused_and_never_opened(
    tmp_path: Path, model: ModelConfiguration, name: str
) -> None:
    directory = make_adapter(tmp_path / "a", model)
    (directory / "adapter_model.safetensors").unlink()
    trap = tmp_path / "sprung"
    (directory / name).write_bytes(pickle.dumps(_Trap(trap)))
    with pytest.raises(UnsupportedModelError, match="is a pickle"):
        read_adapter(directory, model, max_rank=16)
    assert not trap.exists()


def test_a_header_whose_length_looks_like_a_pickle_is_read(
    tmp_path: Path, model: ModelConfiguration
) -> None:
    directory = make_adapter(tmp_path / "a", model)
    path = directory / "adapter_model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    # 0x....0280: two bytes with which a pickle could begin.
    grown = (length // 65536 + 1) * 65536 + 0x0280
    header = content[8 : 8 + length].ljust(grown)
    path.write_bytes(grown.to_bytes(8, "little") + header + content[8 + length :])
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert read_adapter(directory, model, max_rank=16).rank == 4


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, model: ModelConfiguration, missing: str) -> None:
    directory = make_adapter(tmp_path / "a", model)
    (directory / missing).unlink()
    with pytest.raises(ModelError, match=f"{missing} does not exist"):
        read_adapter(directory, model, max_rank=16)


def test_a_path_that_is_no_directory_is_named(tmp_path: Path, model: ModelConfiguration) -> None:
    with pytest.raises(ModelError, match="there is no adapter directory"):
        read_adapter(tmp_path / "nowhere", model, max_rank=16)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_file_gives_a_clear_error_or_a_whole_adapter(
    tmp_path: Path, model: ModelConfiguration, data: st.DataObject
) -> None:
    directory = tmp_path / "a"
    make_adapter(directory, model, modules=("q_proj",))
    name = data.draw(st.sampled_from(["adapter_config.json", "adapter_model.safetensors"]))
    path = directory / name
    content = bytearray(path.read_bytes())
    # Mostly the part that has a meaning: the header.
    reach = min(len(content), 1500)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, reach - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), reach, 9, 0]))])
    with suppress(ModelError):
        adapter = read_adapter(directory, model, max_rank=16)
        for (layer, module), pair in adapter.pairs.items():
            target = known_targets(model)[layer, module]
            assert pair.down.shape == (pair.rank, target.inputs)
            assert pair.up.shape == (target.outputs, pair.rank)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(sorted(settings_of())),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=4,
    ),
)
def test_any_value_of_a_configuration_is_used_or_refused(
    tmp_path: Path, model: ModelConfiguration, name: str, value: Any
) -> None:
    directory = tmp_path / "a"
    make_adapter(directory, model, modules=("q_proj",))
    _change(directory, **{name: value})
    with suppress(ModelError):
        read_adapter(directory, model, max_rank=16)
