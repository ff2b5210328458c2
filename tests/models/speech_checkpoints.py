"""Tiny seeded Whisper checkpoints that transformers and Banyan both open."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

NUM_FRAMES = 100  # of the encoder: two seconds of sound
NUM_TIMES = 1 + NUM_FRAMES
NUM_MEL_BINS = 16
MAX_TOKENS = 64
_SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|zh|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)


def make_speech_checkpoint(directory: Path, *, dtype: str = "float32") -> Path:
    """Write a Whisper of two layers a side that hears windows of two seconds."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    directory.mkdir(parents=True, exist_ok=True)
    ids = _write_tokenizer(directory)
    configuration = transformers.WhisperConfig(
        vocab_size=len(ids) + 3,
        num_mel_bins=NUM_MEL_BINS,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        d_model=64,
        encoder_ffn_dim=96,
        decoder_ffn_dim=96,
        max_source_positions=NUM_FRAMES,
        max_target_positions=MAX_TOKENS,
        init_std=0.3,
        pad_token_id=ids["<|endoftext|>"],
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = transformers.WhisperForConditionalGeneration(configuration)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    model.generation_config = transformers.GenerationConfig(**_generation(ids))
    model.to(getattr(torch, dtype)).save_pretrained(directory)
    extractor = transformers.WhisperFeatureExtractor(
        feature_size=NUM_MEL_BINS, chunk_length=NUM_FRAMES * 2 // 100
    )
    extractor.save_pretrained(directory)
    return directory


def _generation(ids: dict[str, int]) -> dict[str, Any]:
    return {
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|endoftext|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "is_multilingual": True,
        "lang_to_id": {"<|en|>": ids["<|en|>"], "<|zh|>": ids["<|zh|>"]},
        "task_to_id": {
            "transcribe": ids["<|transcribe|>"],
            "translate": ids["<|translate|>"],
        },
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "max_initial_timestamp_index": 50,
        "suppress_tokens": [5, 7, ids["<|startofprev|>"], ids["<|nospeech|>"]],
        "begin_suppress_tokens": [11, ids["<|endoftext|>"]],
        "max_length": MAX_TOKENS,
    }


def _write_tokenizer(directory: Path) -> dict[str, int]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([], trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in _SPECIAL])
    times = [AddedToken(f"<|{0.02 * step:.2f}|>", special=False) for step in range(NUM_TIMES)]
    tokenizer.add_tokens(times)
    tokenizer.save(str(directory / "tokenizer.json"))
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(fields))
    return dict(tokenizer.get_vocab(with_added_tokens=True))
