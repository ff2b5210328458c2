"""Open the directory of a Whisper model, and give its graphs. Imports torch only to capture."""

from dataclasses import dataclass
from pathlib import Path

from banyan.compiler.ir.graph import Graph
from banyan.models.graph_cache import cached_graph, graph_key
from banyan.models.speech.configuration import (
    SpeechConfiguration,
    SpeechTokens,
    read_speech_configuration,
    read_speech_tokens,
)
from banyan.models.tokenizer import Tokenizer
from banyan.models.weights import CheckpointWeights


@dataclass(frozen=True, slots=True)
class SpeechDirectory:
    """One opened model."""

    path: Path
    configuration: SpeechConfiguration
    tokens: SpeechTokens
    tokenizer: Tokenizer

    def open_weights(self) -> CheckpointWeights:
        """Open and validate the weight files."""
        return CheckpointWeights(self.path, lacking="model.")


def open_speech_model(directory: Path) -> SpeechDirectory:
    """Read everything but the weights; raises `ModelError` when something is missing or damaged."""
    return SpeechDirectory(
        directory,
        read_speech_configuration(directory),
        read_speech_tokens(directory),
        Tokenizer.read(directory),
    )


def sound_encoder_graph(
    configuration: SpeechConfiguration, *, dtype: str, cache_directory: Path | None = None
) -> Graph:
    """Give the graph of the encoder: `features` to `sound_keys.{layer}`, `sound_values.{layer}`."""

    def capture() -> Graph:
        from banyan.models.speech.capture import capture_sound_encoder  # noqa: PLC0415

        return capture_sound_encoder(configuration, dtype=dtype)

    return cached_graph(graph_key("sound encoder", configuration, dtype), cache_directory, capture)


def text_decoder_graph(
    configuration: SpeechConfiguration, *, dtype: str, cache_directory: Path | None = None
) -> Graph:
    """Give the graph of one step of the decoder; see `architecture.TextDecoder.forward`."""

    def capture() -> Graph:
        from banyan.models.speech.capture import capture_text_decoder  # noqa: PLC0415

        return capture_text_decoder(configuration, dtype=dtype)

    return cached_graph(graph_key("text decoder", configuration, dtype), cache_directory, capture)
