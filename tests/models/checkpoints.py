"""Tiny seeded checkpoints in the ordinary Hugging Face format.

`make_checkpoint` writes a directory that both transformers and Banyan open: hidden size 64, two
layers, 320 tokens, a real `tokenizer.json` trained here. Norm weights and biases are moved away
from ones and zeros, so a test notices when one of them is left out.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCAB_SIZE = 320
END_OF_TEXT, MESSAGE_START, MESSAGE_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
END_TOKEN_ID = 2
MAX_POSITIONS = 2048

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_TEXT = (
    "A banyan is one tree that stands on many roots.",
    "The people above never see the chip; the people below add a chip by writing a plug-in.",
    "What is the capital of France? The capital of France is Paris.",
    "One two three four five six seven eight nine ten.",
    "\u4e00\u68f5\u6995\u6811\u7531\u5f88\u591a\u6839\u652f\u6491\u3002",
    "\u4e2d\u56fd\u7684\u9996\u90fd\u662f\u5317\u4eac\u3002",
)

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_POSITIONS,
    "initializer_range": 0.1,
    "bos_token_id": None,
    "eos_token_id": END_TOKEN_ID,
    "pad_token_id": 0,
}
_LLAMA31_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
_LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
_YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 512,
}


def _llama(**changes: Any) -> transformers.PretrainedConfig:
    return transformers.LlamaConfig(**{**_COMMON, **changes})


def _qwen3_moe() -> transformers.PretrainedConfig:
    return transformers.Qwen3MoeConfig(
        **{**_COMMON, "num_hidden_layers": 3},
        head_dim=32,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=48,
        norm_topk_prob=True,
        decoder_sparse_step=1,
        mlp_only_layers=[1],
    )


_LATENT: dict[str, Any] = {
    **_COMMON,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "first_k_dense_replace": 1,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "n_shared_experts": 1,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "n_group": 4,
    "topk_group": 2,
}


def _deepseek_v2() -> transformers.PretrainedConfig:
    own = {"q_lora_rank": None, "routed_scaling_factor": 1.5, "topk_method": "group_limited_greedy"}
    return transformers.DeepseekV2Config(**_LATENT, **own)


def _deepseek_v3() -> transformers.PretrainedConfig:
    rope = {**_YARN_ROPE, "mscale": 1.0, "mscale_all_dim": 0.7}
    return transformers.DeepseekV3Config(**_LATENT, q_lora_rank=24, rope_parameters=rope)


def _qwen2() -> transformers.PretrainedConfig:
    return transformers.Qwen2Config(
        **_COMMON, use_sliding_window=True, sliding_window=24, max_window_layers=1
    )


def _bert() -> transformers.PretrainedConfig:
    changes = {"max_position_embeddings": 128, "bos_token_id": None, "eos_token_id": None}
    return transformers.BertConfig(**{**_COMMON, **changes})


def _labelled(maker: Callable[..., Any], **changes: Any) -> transformers.PretrainedConfig:
    labels = {0: "dull", 1: "odd", 2: "fine"}
    names = {label: number for number, label in labels.items()}
    return maker(**{**_COMMON, **changes}, id2label=labels, label2id=names)


def _xlm_roberta(**changes: Any) -> transformers.PretrainedConfig:
    own = {"max_position_embeddings": 129, "type_vocab_size": 1, "pad_token_id": 0}
    ends = {"bos_token_id": None, "eos_token_id": None}
    return transformers.XLMRobertaConfig(**{**_COMMON, **own, **ends, **changes})


_CONFIGURATIONS: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "llama": _llama,
    "llama_tied": lambda: _llama(tie_word_embeddings=True),
    "llama31": lambda: _llama(rope_parameters=dict(_LLAMA31_ROPE)),
    "llama_linear": lambda: _llama(rope_parameters=dict(_LINEAR_ROPE)),
    "llama_yarn": lambda: _llama(rope_parameters=dict(_YARN_ROPE)),
    "mistral": lambda: transformers.MistralConfig(**_COMMON, sliding_window=24),
    "qwen2": _qwen2,
    "qwen3": lambda: transformers.Qwen3Config(**_COMMON, head_dim=32),
    "qwen3_moe": _qwen3_moe,
    "mixtral": lambda: transformers.MixtralConfig(
        **_COMMON, num_local_experts=4, num_experts_per_tok=2
    ),
    "deepseek_v2": _deepseek_v2,
    "deepseek_v3": _deepseek_v3,
    "bert": _bert,
}
DECODER_KINDS = tuple(kind for kind in _CONFIGURATIONS if kind != "bert")
KINDS = tuple(_CONFIGURATIONS)

_POOLING_CONFIGURATIONS: dict[str, tuple[str, Callable[[], transformers.PretrainedConfig]]] = {
    "xlm_roberta": ("AutoModel", _xlm_roberta),
    "bert_labels": (
        "AutoModelForSequenceClassification",
        lambda: _labelled(transformers.BertConfig, max_position_embeddings=128, bos_token_id=None),
    ),
    "xlm_roberta_pairs": (
        "AutoModelForSequenceClassification",
        lambda: _xlm_roberta(num_labels=1),
    ),
    "qwen3_labels": (
        "AutoModelForSequenceClassification",
        lambda: _labelled(transformers.Qwen3Config, head_dim=32),
    ),
    "qwen3_bare": ("AutoModel", lambda: transformers.Qwen3Config(**_COMMON, head_dim=32)),
}
POOLING_KINDS = tuple(_POOLING_CONFIGURATIONS)


def make_checkpoint(
    kind: str, directory: Path, *, dtype: str = "float32", shard_bytes: int | None = None
) -> Path:
    """Write the seeded checkpoint `kind` into `directory` and return the directory.

    `dtype` is "float32" or "bfloat16". With `shard_bytes` the weights are split into several files
    of at most that size.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if kind in _POOLING_CONFIGURATIONS:
        factory, configuration = _POOLING_CONFIGURATIONS[kind]
        model = _random_model(getattr(transformers, factory), configuration(), dtype)
    else:
        auto = transformers.AutoModel if kind == "bert" else transformers.AutoModelForCausalLM
        model = _random_model(auto, _CONFIGURATIONS[kind](), dtype)
    model = model.to(getattr(torch, dtype))
    directory.mkdir(parents=True, exist_ok=True)
    limits = {} if shard_bytes is None else {"max_shard_size": shard_bytes}
    model.save_pretrained(directory, **limits)
    if kind.startswith(("bert", "xlm_roberta")):
        write_encoder_tokenizer(directory, has_types=kind.startswith("bert"))
        if "_" not in kind.removeprefix("xlm_"):
            write_pooling(directory, mode="mean" if kind == "bert" else "cls", normalise=True)
    else:
        write_decoder_tokenizer(directory)
    return directory


def _random_model(factory: Any, configuration: Any, dtype: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(20)
        model = factory.from_config(configuration)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
                elif parameter.dim() == 3 and dtype == "bfloat16":
                    # Experts much alike: where the router has nearly a tie, the rounding of
                    # bfloat16 picks another expert, and the comparison must survive that.
                    # In float32 they differ fully, so a wrong choice of expert shows there.
                    parameter.lerp_(parameter[:1].clone(), 0.98)
            for name, buffer in model.named_buffers():
                if name.endswith("e_score_correction_bias"):
                    buffer.add_(0.1 * torch.randn_like(buffer))
    return model.eval()


def write_decoder_tokenizer(directory: Path) -> None:
    """Write a byte-level BPE tokenizer of 320 tokens with a ChatML template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END_OF_TEXT, MESSAGE_START, MESSAGE_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    tokenizer.save(str(directory / "tokenizer.json"))
    _write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": MESSAGE_END,
            "pad_token": END_OF_TEXT,
            "model_max_length": MAX_POSITIONS,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    _write_json(
        directory / "generation_config.json",
        {"eos_token_id": [END_TOKEN_ID, 0], "pad_token_id": 0, "temperature": 0.7, "top_p": 0.8},
    )


def write_encoder_tokenizer(directory: Path, *, has_types: bool = True) -> None:
    """Write a WordPiece tokenizer that puts [CLS] and [SEP] around a text."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    _write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "model_max_length": 128,
            "model_input_names": [
                "input_ids",
                "attention_mask",
                *(["token_type_ids"] if has_types else []),
            ],
        },
    )


def write_pooling(directory: Path, *, mode: str, normalise: bool) -> None:
    """Write the sentence-transformers files: pooling `mode` is "mean", "cls" or "lasttoken"."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if normalise:
        kinds.append(("2_Normalize", "Normalize"))
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, (path, kind) in enumerate(kinds)
    ]
    _write_json(directory / "modules.json", modules)
    (directory / "1_Pooling").mkdir(exist_ok=True)
    _write_json(
        directory / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": 64,
            "pooling_mode_cls_token": mode == "cls",
            "pooling_mode_mean_tokens": mode == "mean",
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
            "pooling_mode_lasttoken": mode == "lasttoken",
        },
    )


def change_json(path: Path, **changes: Any) -> None:
    """Set fields of a JSON file; a field set to None is removed."""
    fields = json.loads(path.read_text(encoding="utf-8")) | changes
    _write_json(path, {name: value for name, value in fields.items() if value is not None})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
