"""From the directory of a Whisper model to something that writes down speech."""

from dataclasses import dataclass
from pathlib import Path

from banyan.compiler.compile import Executable
from banyan.compiler.ir.cached import CACHE_FORMATS
from banyan.devices.device import Device
from banyan.engine.batch_generation import Progress
from banyan.engine.cache.key_value_blocks import blocks_for
from banyan.engine.options import EngineOptions
from banyan.engine.speech.queue import TranscriptionQueue
from banyan.engine.speech.runner import SpeechRunner
from banyan.engine.speech.sound_file import read_sound
from banyan.engine.starting.compiling import choose_dtype, compile_and_pack
from banyan.engine.starting.loading import free_memory_bytes, on_device
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings
from banyan.models.quantized_model import QuantizedModel
from banyan.models.speech.configuration import SpeechConfiguration
from banyan.models.speech.directory import (
    SpeechDirectory,
    open_speech_model,
    sound_encoder_graph,
    text_decoder_graph,
)

# A lane keeps a whole window of sound for every layer; more lanes than this gain little.
_MOST_LANES = 16
_SHARE_OF_FREE_MEMORY = 0.4


@dataclass(frozen=True, slots=True)
class LoadedSpeech:
    """A model that is ready to write down speech; `executable` is its decoder."""

    directory: SpeechDirectory
    queue: TranscriptionQueue
    executable: Executable
    device: Device

    def close(self) -> None:
        """Stop the device's threads."""
        self.device.close()


def load_speech(
    directory: Path, options: EngineOptions, *, settings: Settings, progress: Progress
) -> LoadedSpeech:
    """Make a Whisper model ready.

    Raises:
        ModelError: the model cannot be used.
        InputError: an option cannot be used with this model.
        EnvironmentProblem: the machine lacks something.
    """
    progress("Opening the model", 0, 1)
    opened = open_speech_model(directory)
    _refuse_options(options)
    configuration = opened.configuration
    weights = opened.open_weights()
    dtype = choose_dtype(options.dtype, configuration.checkpoint_dtype)

    def build(device: Device) -> LoadedSpeech:
        progress("Capturing the graphs", 0, 1)
        cache = settings.cache_directory
        encoder, decoder = (
            compile_and_pack(
                QuantizedModel(make(configuration, dtype=dtype, cache_directory=cache), weights),
                device,
                settings=settings,
                say=progress,
            )
            for make in (sound_encoder_graph, text_decoder_graph)
        )
        num_lanes = choose_lanes(
            configuration,
            dtype=dtype,
            most=min(options.max_num_seqs, _MOST_LANES),
            free_bytes=free_memory_bytes(device),
        )
        runner = SpeechRunner(encoder, decoder, configuration, dtype=dtype, num_lanes=num_lanes)
        queue = TranscriptionQueue(
            runner,
            opened.tokens,
            opened.tokenizer,
            read_sound=read_sound,
            max_waiting_requests=options.max_waiting_requests,
        )
        return LoadedSpeech(opened, queue, decoder, device)

    return on_device(options, settings, build)


def choose_lanes(
    configuration: SpeechConfiguration, *, dtype: str, most: int, free_bytes: int
) -> int:
    """Choose how many sounds are written down at once; memory is the bound."""
    c = configuration
    rows = blocks_for(c.num_frames) + blocks_for(c.max_tokens)
    row_bytes = CACHE_FORMATS[dtype].row_bytes(c.hidden_size)
    lane_bytes = 2 * c.decoder_layers * rows * 16 * row_bytes
    return max(1, min(most, int(free_bytes * _SHARE_OF_FREE_MEMORY) // lane_bytes))


def _refuse_options(options: EngineOptions) -> None:
    if options.has_adapters:
        raise InputError("a model that writes down speech takes no LoRA adapters; leave them out")
    for name, harmless in (
        ("quantization", None),
        ("quantization_output", None),
        ("activation", None),
        ("kv_cache_dtype", "auto"),
        ("deferred_experts", 0),
        ("task", "auto"),
        ("speculation", None),
    ):
        value = getattr(options, name)
        if value != harmless:
            raise InputError(
                f"{name}={value!r} is not possible with a model that writes down speech; leave it "
                "out"
            )
