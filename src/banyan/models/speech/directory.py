"""Open the directory of a Whisper model, and give its graphs; another process captures them."""

from dataclasses import dataclass
from pathlib import Path

from banyan.compiler.ir.graph import Graph
from banyan.models.capturing import CaptureWork, capture_apart
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
    arguments = {"configuration": configuration, "dtype": dtype}
    work = CaptureWork("banyan.models.speech.capture", "capture_sound_encoder", arguments)
    key = graph_key("sound encoder", configuration, dtype)
    return cached_graph(key, cache_directory, lambda: capture_apart(work))


def text_decoder_graph(
    configuration: SpeechConfiguration, *, dtype: str, cache_directory: Path | None = None
) -> Graph:
    """Give the graph of one step of the decoder; see `architecture.TextDecoder.forward`."""
    arguments = {"configuration": configuration, "dtype": dtype}
    work = CaptureWork("banyan.models.speech.capture", "capture_text_decoder", arguments)
    key = graph_key("text decoder", configuration, dtype)
    return cached_graph(key, cache_directory, lambda: capture_apart(work))
