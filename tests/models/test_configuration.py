import json
from pathlib import Path
from typing import Any

import pytest

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.configuration import (
    EncoderConfiguration,
    ModelConfiguration,
    read_configuration,
)
from banyan.models.rope import LinearScaling, Rope

SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}


def read(directory: Path, **values: Any) -> Any:
    fields = {"architectures": ["LlamaForCausalLM"], **SIZES, **values}
    present = {name: value for name, value in fields.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(present))
    return read_configuration(directory)


def test_a_llama_is_read_with_the_defaults_of_its_family(tmp_path: Path) -> None:
    configuration = read(tmp_path)
    assert isinstance(configuration, ModelConfiguration)
    assert configuration.head_dim == 16
    assert configuration.rope == Rope(10000.0)
    assert configuration.norm_epsilon == 1e-6
    assert configuration.sliding_windows == (0, 0, 0, 0)
    assert configuration.experts is None
    assert not configuration.is_sparse(0)
    assert not configuration.tie_embeddings
    assert not configuration.query_key_value_bias


def test_the_fields_of_transformers_4_and_5_mean_the_same(tmp_path: Path) -> None:
    old = read(
        tmp_path,
        rope_theta=5e5,
        rope_scaling={"type": "linear", "factor": 2.0},
        torch_dtype="bfloat16",
    )
    new = read(
        tmp_path,
        rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5},
        dtype="bfloat16",
    )
    assert old == new
    assert old.rope == Rope(5e5, LinearScaling(2.0))
    assert old.checkpoint_dtype == "bfloat16"


def test_a_model_type_alone_names_the_architecture(tmp_path: Path) -> None:
    assert read(tmp_path, architectures=None, model_type="qwen3").query_key_norm
    bert = read(tmp_path, architectures=None, model_type="bert")
    assert isinstance(bert, EncoderConfiguration)


def test_an_unknown_architecture_is_named_with_those_known(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'GPT2LMHeadModel'; known are .*LlamaFor"):
        read(tmp_path, architectures=["GPT2LMHeadModel"])
    with pytest.raises(UnsupportedModelError, match=r"'mamba'; known are"):
        read(tmp_path, architectures=None, model_type="mamba")
    with pytest.raises(ModelError, match="names no architecture"):
        read(tmp_path, architectures=None)


def test_biases_belong_to_the_families_that_have_them(tmp_path: Path) -> None:
    qwen = read(tmp_path, architectures=["Qwen2ForCausalLM"])
    assert (qwen.query_key_value_bias, qwen.attention_output_bias) == (True, False)
    llama = read(tmp_path, attention_bias=True, mlp_bias=True)
    assert (llama.query_key_value_bias, llama.attention_output_bias) == (True, True)
    assert llama.feed_forward_bias


def test_a_mistral_window_counts_for_every_layer(tmp_path: Path) -> None:
    mistral = read(tmp_path, architectures=["MistralForCausalLM"], sliding_window=24)
    assert mistral.sliding_windows == (24, 24, 24, 24)
    open_mistral = read(tmp_path, architectures=["MistralForCausalLM"])
    assert open_mistral.sliding_windows == (0, 0, 0, 0)


def test_a_qwen_window_needs_its_flag_and_starts_at_its_layer(tmp_path: Path) -> None:
    qwen = {"architectures": ["Qwen2ForCausalLM"], "sliding_window": 24, "max_window_layers": 3}
    assert read(tmp_path, **qwen).sliding_windows == (0, 0, 0, 0)
    assert read(tmp_path, **qwen, use_sliding_window=True).sliding_windows == (0, 0, 0, 24)
    qwen["layer_types"] = ["sliding_attention", "full_attention"] * 2
    assert read(tmp_path, **qwen, use_sliding_window=True).sliding_windows == (24, 0, 24, 0)


def test_layer_types_must_be_known_and_as_many_as_the_layers(tmp_path: Path) -> None:
    qwen = {
        "architectures": ["Qwen3ForCausalLM"],
        "sliding_window": 24,
        "use_sliding_window": True,
    }
    with pytest.raises(UnsupportedModelError, match="layers of type 'linear_attention'"):
        read(tmp_path, **qwen, layer_types=["linear_attention"] * 4)
    with pytest.raises(ModelError, match="layer_types names 1 layers, num_hidden_layers says 4"):
        read(tmp_path, **qwen, layer_types=["full_attention"])


def test_the_sparse_layers_of_a_qwen_mixture_follow_step_and_list(tmp_path: Path) -> None:
    mixture = read(
        tmp_path,
        architectures=["Qwen3MoeForCausalLM"],
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=48,
        decoder_sparse_step=2,
        mlp_only_layers=[3],
        norm_topk_prob=True,
    )
    assert mixture.experts is not None
    assert mixture.experts.sparse_layers == (False, True, False, False)
    assert mixture.is_sparse(1)
    assert mixture.experts.intermediate_size == 48
    assert mixture.experts.normalise


def test_a_mixtral_always_normalises_and_uses_its_own_names(tmp_path: Path) -> None:
    mixtral = read(
        tmp_path,
        architectures=["MixtralForCausalLM"],
        num_local_experts=4,
        num_experts_per_tok=2,
    )
    assert mixtral.experts is not None
    assert mixtral.experts.normalise
    assert mixtral.experts.names.block == "block_sparse_moe"
    assert mixtral.experts.intermediate_size == 128
    assert mixtral.rope.theta == 1e6


def test_more_chosen_experts_than_experts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="num_experts_per_tok 5 is above the 4 experts"):
        read(
            tmp_path,
            architectures=["MixtralForCausalLM"],
            num_local_experts=4,
            num_experts_per_tok=5,
        )


def test_shapes_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="must be a multiple of num_key_value_heads 3"):
        read(tmp_path, num_key_value_heads=3)
    with pytest.raises(ModelError, match="hidden_size 63 must be a multiple"):
        read(tmp_path, hidden_size=63)
    with pytest.raises(UnsupportedModelError, match="head_dim 15 is odd"):
        read(tmp_path, head_dim=15)
    with pytest.raises(ModelError, match="lacks the field 'vocab_size'"):
        read(tmp_path, vocab_size=None)


def test_an_unknown_activation_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="activation 'relu'; supported is silu"):
        read(tmp_path, hidden_act="relu")


def test_the_end_tokens_may_be_one_or_several(tmp_path: Path) -> None:
    assert read(tmp_path, eos_token_id=2).eos_token_ids == (2,)
    assert read(tmp_path, eos_token_id=[2, 3], bos_token_id=1).eos_token_ids == (2, 3)
    assert read(tmp_path, bos_token_id=1).bos_token_id == 1
    assert read(tmp_path).bos_token_id is None


def test_an_encoder_is_read(tmp_path: Path) -> None:
    bert = read(tmp_path, architectures=["BertModel"], layer_norm_eps=1e-12, type_vocab_size=2)
    assert isinstance(bert, EncoderConfiguration)
    assert (bert.head_dim, bert.activation, bert.num_token_types) == (16, "gelu", 2)
    approximate = read(tmp_path, architectures=["BertModel"], hidden_act="gelu_new")
    assert approximate.activation == "gelu_tanh"


def test_encoders_with_other_parts_are_refused(tmp_path: Path) -> None:
    bert = {"architectures": ["BertModel"]}
    with pytest.raises(UnsupportedModelError, match="'relative_key' position embeddings"):
        read(tmp_path, **bert, position_embedding_type="relative_key")
    with pytest.raises(UnsupportedModelError, match="activation 'relu'; supported are gelu"):
        read(tmp_path, **bert, hidden_act="relu")
    with pytest.raises(ModelError, match="hidden_size 63 must be a multiple"):
        read(tmp_path, **bert, hidden_size=63)
