"""What config.json and generation_config.json say of a Whisper model. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.json_fields import Fields

ARCHITECTURES = ("WhisperForConditionalGeneration", "WhisperModel")


@dataclass(frozen=True, slots=True)
class SpeechConfiguration:
    """Shapes of an encoder of sound and a decoder of text.

    Attributes:
        num_frames: vectors that the encoder makes of one window, half its frames of sound.
        max_tokens: rows of the decoder's position table.
        scales_embedding: token embeddings are multiplied by the root of their size.
    """

    architecture: str
    vocab_size: int
    num_mel_bins: int
    hidden_size: int
    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int
    encoder_inner: int
    decoder_inner: int
    num_frames: int
    max_tokens: int
    scales_embedding: bool
    checkpoint_dtype: str | None


@dataclass(frozen=True, slots=True)
class SpeechTokens:
    """Token ids with a meaning.

    Attributes:
        start: begins every transcript.
        end: ends it.
        languages: from a code such as "en" to its token; empty for a model of one language.
        transcribe, translate: what to do; None for a model of one language.
        no_timestamps: asks for plain text; times follow it in steps of 0.02 seconds.
        previous: what was said before follows.
        no_speech: its probability at the start says that nobody speaks; None when unknown.
        suppressed: never written.
        suppressed_first: never written first.
        latest_start: the first time of a window is at most so many steps; None for any.
    """

    start: int
    end: int
    languages: Mapping[str, int]
    transcribe: int | None
    translate: int | None
    no_timestamps: int
    previous: int | None
    no_speech: int | None
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]
    latest_start: int | None

    @property
    def first_time(self) -> int:
        """The token of 0.00 seconds."""
        return self.no_timestamps + 1


def is_speech_model(directory: Path) -> bool:
    """Tell whether config.json names an architecture of this module."""
    path = directory / "config.json"
    if not path.is_file():
        return False
    fields = Fields.read(path)
    return (*fields.texts("architectures"), "")[0] in ARCHITECTURES


def read_speech_configuration(directory: Path) -> SpeechConfiguration:
    """Read `config.json`.

    Raises:
        UnsupportedModelError: an activation that is not known here.
        ModelError: the file is damaged or contradicts itself.
    """
    fields = Fields.read(directory / "config.json")
    activation = fields.text("activation_function", "gelu")
    if activation != "gelu":
        raise UnsupportedModelError(
            f"{fields.origin} asks for the activation {activation!r}; supported is 'gelu'"
        )
    hidden_size = fields.integer("d_model")
    for name in ("encoder_attention_heads", "decoder_attention_heads"):
        if hidden_size % fields.integer(name):
            raise ModelError(
                f"{fields.origin}: d_model {hidden_size} must be a multiple of {name} "
                f"{fields.integer(name)}"
            )
    dtype = "dtype" if fields.has("dtype") else "torch_dtype"
    return SpeechConfiguration(
        architecture=fields.texts("architectures")[0],
        vocab_size=fields.integer("vocab_size"),
        num_mel_bins=fields.integer("num_mel_bins", 80),
        hidden_size=hidden_size,
        encoder_layers=fields.integer("encoder_layers"),
        decoder_layers=fields.integer("decoder_layers"),
        encoder_heads=fields.integer("encoder_attention_heads"),
        decoder_heads=fields.integer("decoder_attention_heads"),
        encoder_inner=fields.integer("encoder_ffn_dim"),
        decoder_inner=fields.integer("decoder_ffn_dim"),
        num_frames=fields.integer("max_source_positions", 1500),
        max_tokens=fields.integer("max_target_positions", 448),
        scales_embedding=fields.flag("scale_embedding", False),
        checkpoint_dtype=fields.text(dtype).removeprefix("torch.") if fields.has(dtype) else None,
    )


def read_speech_tokens(directory: Path) -> SpeechTokens:
    """Read the tokens with a meaning from `generation_config.json`.

    Raises:
        ModelError: the file is missing, or lacks what times and languages need.
    """
    fields = Fields.read(directory / "generation_config.json")
    tasks = fields.nested("task_to_id")
    languages = fields.nested("lang_to_id")
    no_timestamps = fields.integer("no_timestamps_token_id")
    # Whisper's order of special tokens: ..., previous, no speech, no timestamps, 0.00, 0.02, ...
    previous = fields.values.get("prev_sot_token_id")
    latest = "max_initial_timestamp_index"
    return SpeechTokens(
        start=fields.integer("decoder_start_token_id"),
        end=fields.integers("eos_token_id")[0],
        languages={
            name.removeprefix("<|").removesuffix("|>"): int(token)
            for name, token in (languages.values if languages is not None else {}).items()
        },
        transcribe=None if tasks is None else tasks.integer("transcribe"),
        translate=None if tasks is None else tasks.integer("translate"),
        no_timestamps=no_timestamps,
        previous=no_timestamps - 2 if previous is None else int(previous),
        no_speech=no_timestamps - 1,
        suppressed=tuple(token for token in fields.integers("suppress_tokens") if token >= 0),
        suppressed_first=fields.integers("begin_suppress_tokens"),
        latest_start=fields.integer(latest, minimum=0) if fields.has(latest) else None,
    )
