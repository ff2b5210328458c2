"""From a model's name to something that makes vectors or scores: an encoder, or a decoder.

Called by `Embedder` and the engine process.
"""

from dataclasses import dataclass, replace

from banyan.compiler.compile import Executable
from banyan.compiler.ir.cached import CacheFormat
from banyan.devices.device import Device
from banyan.engine.batch_generation import Progress
from banyan.engine.options import EngineOptions
from banyan.engine.pooling.decoder import (
    DecoderRunner,
    RowChoice,
    blocks_of_run,
    rows_for_answers,
    rows_for_labels,
    rows_for_vectors,
)
from banyan.engine.pooling.encoder import EncoderRunner
from banyan.engine.pooling.runner import PoolingRunner
from banyan.engine.starting.cache_size import choose_cache_format, choose_limits
from banyan.engine.starting.compiling import (
    choose_dtype,
    compile_and_pack,
    open_directory,
    packed_weights_key,
    plain_graph,
    quantized,
    say_nothing,
)
from banyan.engine.starting.loading import cache_shape, free_memory_bytes, on_device
from banyan.engine.starting.memory_plan import SHARE_OF_FREE_MEMORY
from banyan.foundation.errors import InputError, ModelError
from banyan.foundation.settings import Settings
from banyan.models.configuration import EncoderConfiguration, ModelConfiguration
from banyan.models.loading import ModelDirectory


@dataclass(frozen=True, slots=True)
class LoadedPooler:
    """A model that makes vectors or scores; the attributes are those of `LoadedModel`."""

    directory: ModelDirectory
    runner: PoolingRunner
    executable: Executable
    device: Device

    def close(self) -> None:
        """Stop the device's threads."""
        self.device.close()


def load_pooler(
    model: str, options: EngineOptions, *, settings: Settings, progress: Progress | None = None
) -> LoadedPooler:
    """Make a model ready to give vectors or scores.

    Raises:
        ModelError: the model cannot be used, or only writes text.
        InputError: an option cannot be used with this model or on this machine.
        EnvironmentProblem: the machine lacks something.
    """
    say = progress or say_nothing
    directory = open_directory(model, options, settings, say)
    if directory.task == "generate":
        raise ModelError(
            f"{directory.name} is a text model ({directory.configuration.architecture}) and makes "
            "no embeddings unless it is served with the task 'embed'"
        )
    weights = directory.open_weights()
    configuration = directory.configuration
    dtype = choose_dtype(options.dtype, configuration.checkpoint_dtype)
    form = _cache_format(directory, options, dtype)

    def build(device: Device) -> LoadedPooler:
        say("Capturing the graph", 0, 1)
        graph = plain_graph(directory, dtype, settings, cache_format=form.name)
        joined = quantized(directory, weights, graph, options, dtype)
        key = packed_weights_key(directory, joined)
        executable = compile_and_pack(joined, device, settings=settings, say=say, key=key)
        if isinstance(configuration, EncoderConfiguration):
            runner: PoolingRunner = _encoder_runner(directory, configuration, executable, options)
        else:
            runner = _decoder_runner(directory, configuration, executable, options, device, form)
        return LoadedPooler(directory, runner, executable, device)

    return on_device(options, settings, build)


def _cache_format(directory: ModelDirectory, options: EngineOptions, dtype: str) -> CacheFormat:
    """Choose how a decoder keeps keys and values while it reads; an encoder keeps none."""
    asked = options.kv_cache_dtype
    if isinstance(directory.configuration, ModelConfiguration):
        own = directory.configuration
        return choose_cache_format(
            asked, dtype=dtype, head_dim=own.cached_size, caches_values=own.caches_values
        )
    if asked != "auto":
        raise InputError(
            f"kv_cache_dtype={asked!r} was given, but {directory.name} is an encoder and keeps no "
            "keys and values; leave it out"
        )
    return choose_cache_format("auto", dtype=dtype, head_dim=directory.configuration.head_dim)


def _encoder_runner(
    directory: ModelDirectory,
    configuration: EncoderConfiguration,
    executable: Executable,
    options: EngineOptions,
) -> EncoderRunner:
    pooling = directory.pooling
    longest = configuration.max_tokens if pooling is None else pooling.max_tokens
    return EncoderRunner(
        executable,
        pooling,
        max_tokens=min(longest, options.max_model_len or longest),
        vocab_size=configuration.vocab_size,
        num_token_types=configuration.num_token_types,
    )


def _decoder_runner(
    directory: ModelDirectory,
    configuration: ModelConfiguration,
    executable: Executable,
    options: EngineOptions,
    device: Device,
    form: CacheFormat,
) -> DecoderRunner:
    pooling = directory.pooling
    longest = configuration.max_position_embeddings if pooling is None else pooling.max_tokens
    limits = choose_limits(
        replace(options, max_num_seqs=1),
        cache_shape(configuration, form),
        longest=longest,
        cache_bytes=int(free_memory_bytes(device) * SHARE_OF_FREE_MEMORY),
    )
    executable.allocate_state({"num_blocks": blocks_of_run(limits.max_model_len)})
    return DecoderRunner(
        executable,
        _rows(directory),
        max_tokens=limits.max_model_len,
        vocab_size=configuration.vocab_size,
    )


def _rows(directory: ModelDirectory) -> RowChoice:
    if directory.pooling is not None:
        return rows_for_vectors(directory.pooling)
    return rows_for_labels() if directory.answers is None else rows_for_answers(directory.answers)
