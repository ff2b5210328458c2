"""Tiny seeded vision-language checkpoints that transformers and Banyan both open.

The tokenizer is that of `checkpoints`, with a word for images added; the weights are spread widely,
so that a row in the wrong place or a turn left out moves the logits far beyond rounding.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer

from tests.models.checkpoints import END_TOKEN_ID, VOCAB_SIZE, write_decoder_tokenizer

IMAGE_WORD, IMAGE_TOKEN = "<image>", VOCAB_SIZE
PATCH_SIZE, SIDE = 4, 24
MEANS, DEVIATIONS = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

_DECODER: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE + 8,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.1,
    "bos_token_id": None,
    "eos_token_id": END_TOKEN_ID,
    "pad_token_id": 0,
}
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_IDS = {
    "image_token_id": IMAGE_TOKEN,
    "video_token_id": IMAGE_TOKEN + 1,
    "vision_start_token_id": IMAGE_TOKEN + 2,
    "vision_end_token_id": IMAGE_TOKEN + 3,
}


def _qwen2_vl() -> transformers.PretrainedConfig:
    return transformers.Qwen2VLConfig(
        text_config={**_DECODER, "rope_parameters": {**_ROPE, "mrope_section": [2, 3, 3]}},
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 64,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": PATCH_SIZE,
            "initializer_range": 0.1,
        },
        **_IDS,
    )


def _qwen2_5_vl() -> transformers.PretrainedConfig:
    return transformers.Qwen2_5_VLConfig(
        text_config={**_DECODER, "rope_parameters": {**_ROPE, "mrope_section": [4, 2, 2]}},
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 48,
            "out_hidden_size": 64,
            "num_heads": 2,
            "patch_size": PATCH_SIZE,
            # Three rows in each direction, so windows reach over the edges of most images.
            "window_size": 3 * 2 * PATCH_SIZE,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.1,
        },
        tie_word_embeddings=True,
        **_IDS,
    )


def _llava() -> transformers.PretrainedConfig:
    return transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=PATCH_SIZE,
            initializer_range=0.1,
        ),
        text_config=transformers.LlamaConfig(**_DECODER),
        image_token_index=IMAGE_TOKEN,
        image_seq_length=(SIDE // PATCH_SIZE) ** 2,
    )


_MAKERS = {
    "qwen2_vl": (_qwen2_vl, "Qwen2VLForConditionalGeneration"),
    "qwen2_5_vl": (_qwen2_5_vl, "Qwen2_5_VLForConditionalGeneration"),
    "llava": (_llava, "LlavaForConditionalGeneration"),
}
KINDS = tuple(_MAKERS)


def make_vision_checkpoint(kind: str, directory: Path) -> Path:
    """Write the seeded checkpoint `kind` with tokenizer, template and image processor."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    maker, name = _MAKERS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = getattr(transformers, name)(maker())
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    write_decoder_tokenizer(directory)
    path = directory / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_special_tokens([AddedToken(IMAGE_WORD, special=True)])
    assert tokenizer.token_to_id(IMAGE_WORD) == IMAGE_TOKEN
    tokenizer.save(str(path))
    (directory / "preprocessor_config.json").write_text(json.dumps(_preparing(kind)))
    return directory


def _preparing(kind: str) -> dict[str, Any]:
    common = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": MEANS,
        "image_std": DEVIATIONS,
        "resample": 3,
        "rescale_factor": 1 / 255,
    }
    if kind == "llava":
        return {
            **common,
            "do_center_crop": True,
            "crop_size": {"height": SIDE, "width": SIDE},
            "size": {"shortest_edge": SIDE},
            "image_processor_type": "CLIPImageProcessor",
        }
    return {
        **common,
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": PATCH_SIZE,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "min_pixels": 4 * 64,
        "max_pixels": 40 * 64,
    }
