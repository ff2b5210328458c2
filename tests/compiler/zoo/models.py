"""Tiny models with seeded random weights, built from other people's modules, unmodified."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as hub
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

LENGTH = torch.export.Dim("length", min=2, max=64)

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ZooModel:
    """Attributes:
    build: the module in evaluation mode, float32.
    arguments: keyword arguments for one sequence length.
    lengths: the lengths to compare at; the first is the one that is traced.
    dynamic: which arguments change with the length, as for `torch.export.export`.
    """

    name: str
    build: Callable[[], Any]
    arguments: Callable[[int], Arguments]
    lengths: Sequence[int] = (12,)
    dynamic: Mapping[str, Any] = field(default_factory=dict)

    def shapes(self) -> Any:
        """The dynamic shapes of every argument."""
        if not self.dynamic:
            return None
        return {name: self.dynamic.get(name) for name in self.arguments(self.lengths[0])}


def seeded(make: Callable[[], Any]) -> Any:
    """The module with weights that are neither all alike nor so small that nothing shows."""
    torch.manual_seed(7)
    module = make().eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 1.0 / parameter.flatten(1).shape[1] ** 0.5)
            elif "norm" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def _tokens(length: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(3, 90, (batch, length), generator=generator)


def _pictures(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


DECODER: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def _decoder_arguments(length: int) -> Arguments:
    return {"input_ids": _tokens(length), "use_cache": False}


def _decoder(name: str, make: Callable[[], Any]) -> ZooModel:
    return ZooModel(
        name, lambda: seeded(make), _decoder_arguments, (12, 2, 37), {"input_ids": {1: LENGTH}}
    )


def _mixture() -> Any:
    config = hub.Qwen3MoeConfig(
        **DECODER, head_dim=16, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=48
    )
    config._experts_implementation = "grouped_mm"
    return hub.Qwen3MoeForCausalLM(config)


def _deepseek() -> Any:
    config = hub.DeepseekV3Config(
        **{**DECODER, "num_key_value_heads": 4},
        moe_intermediate_size=32,
        n_routed_experts=8,
        n_shared_experts=1,
        num_experts_per_tok=2,
        n_group=4,
        topk_group=2,
        first_k_dense_replace=1,
        kv_lora_rank=32,
        q_lora_rank=48,
        qk_nope_head_dim=16,
        qk_rope_head_dim=8,
        v_head_dim=16,
    )
    config._experts_implementation = "grouped_mm"
    return hub.DeepseekV3ForCausalLM(config)


def _bert() -> Any:
    return hub.BertModel(
        hub.BertConfig(
            vocab_size=97,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=112,
        )
    )


def _bert_arguments(length: int) -> Arguments:
    tokens = _tokens(length)
    mask = torch.ones_like(tokens)
    mask[1, length // 2 + 1 :] = 0
    return {"input_ids": tokens, "attention_mask": mask}


def _clip() -> Any:
    text = {
        "vocab_size": 99,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "eos_token_id": 98,
    }
    vision = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }
    return hub.CLIPModel(hub.CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))


def _clip_arguments(length: int) -> Arguments:
    tokens = _tokens(length)
    tokens[:, -1] = 98
    return {"input_ids": tokens, "pixel_values": _pictures(2, 3, 32, 32)}


def _whisper() -> Any:
    return hub.WhisperForConditionalGeneration(
        hub.WhisperConfig(
            vocab_size=97,
            num_mel_bins=16,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            d_model=64,
            encoder_ffn_dim=96,
            decoder_ffn_dim=96,
            max_source_positions=20,
            max_target_positions=64,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
    )


def _whisper_arguments(length: int) -> Arguments:
    return {
        "input_features": _pictures(2, 16, 40),
        "decoder_input_ids": _tokens(length),
        "use_cache": False,
    }


def _dit() -> Any:
    return DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        norm_num_groups=4,
        sample_size=16,
        patch_size=2,
        num_embeds_ada_norm=10,
    )


def _dit_arguments(_: int) -> Arguments:
    return {
        "hidden_states": _pictures(2, 4, 16, 16),
        "timestep": torch.tensor([3, 700]),
        "class_labels": torch.tensor([1, 9]),
    }


def _unet() -> Any:
    return UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=48,
        attention_head_dim=2,
        norm_num_groups=4,
    )


def _unet_arguments(length: int) -> Arguments:
    return {
        "sample": _pictures(2, 4, 4, 4),
        "timestep": torch.tensor([3, 700]),
        "encoder_hidden_states": _pictures(2, length, 48),
    }


def _mamba() -> Any:
    return hub.Mamba2Model(
        hub.Mamba2Config(
            vocab_size=97,
            hidden_size=32,
            num_hidden_layers=2,
            num_heads=4,
            head_dim=16,
            state_size=8,
            n_groups=2,
            chunk_size=4,
            expand=2,
            use_cache=False,
        )
    )


MODELS = (
    _decoder("llama", lambda: hub.LlamaForCausalLM(hub.LlamaConfig(**DECODER))),
    _decoder("qwen3", lambda: hub.Qwen3ForCausalLM(hub.Qwen3Config(**DECODER, head_dim=16))),
    _decoder("qwen3_moe", _mixture),
    _decoder("deepseek_v3", _deepseek),
    ZooModel(
        "bert",
        lambda: seeded(_bert),
        _bert_arguments,
        (12, 2, 37),
        {"input_ids": {1: LENGTH}, "attention_mask": {1: LENGTH}},
    ),
    ZooModel(
        "clip", lambda: seeded(_clip), _clip_arguments, (12, 2, 37), {"input_ids": {1: LENGTH}}
    ),
    ZooModel(
        "whisper",
        lambda: seeded(_whisper),
        _whisper_arguments,
        (12, 2, 37),
        {"decoder_input_ids": {1: LENGTH}},
    ),
    ZooModel("dit", lambda: seeded(_dit), _dit_arguments),
    ZooModel(
        "unet",
        lambda: seeded(_unet),
        _unet_arguments,
        (12, 37),
        {"encoder_hidden_states": {1: LENGTH}},
    ),
    ZooModel(
        "mamba2",
        lambda: seeded(_mamba),
        lambda length: {"input_ids": _tokens(length)},
        (12, 8),
        {"input_ids": {1: 4 * torch.export.Dim("chunks", min=2, max=8)}},
    ),
)
