"""From a model's directory to a program with its weights: capture, quantise, compile, pack.

Called by the loading of models that write, draft, pool and listen. On a warm start the graph comes
from the cache and torch is never imported.
"""

import logging
from dataclasses import replace

from banyan.compiler.compile import CompileOptions, Executable, compile_graph
from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.packed_cache import packed_key
from banyan.devices.cpu import CpuDevice
from banyan.devices.device import Device
from banyan.engine.batch_generation import Progress
from banyan.engine.options import EngineOptions
from banyan.engine.starting.determinism import instruction_set_of
from banyan.engine.starting.warm_start import WarmStart
from banyan.foundation.errors import CompilerMissing
from banyan.foundation.settings import Settings
from banyan.models.checkpoint_identity import checkpoint_identity
from banyan.models.configuration import EncoderConfiguration
from banyan.models.experts import with_deferred
from banyan.models.loading import ModelDirectory, open_model
from banyan.models.quantisation.rounded import RoundingChoice
from banyan.models.quantized_model import QuantizedModel, quantized_model
from banyan.models.step_graph import decoder_step_graph, encoder_graph
from banyan.models.weights import CheckpointWeights

_logger = logging.getLogger("banyan.engine")

OUTPUT_FORMAT = "int8"
"""Of the output matrix when ordinary weights are rounded: 4 bits would cost too much there."""


def open_directory(
    model: str, options: EngineOptions, settings: Settings, say: Progress
) -> ModelDirectory:
    """Open the directory of a model for the task that the options ask for.

    Raises:
        ModelError: the model cannot be used, or has not the experts that are to be deferred.
    """
    say("Opening the model", 0, 1)
    directory = open_model(model, offline=settings.offline, task=options.task)
    return _deferring(directory, options.deferred_experts)


def _deferring(directory: ModelDirectory, deferred: int) -> ModelDirectory:
    """The same model with so many experts of each token counting one layer later."""
    if deferred == 0:
        return directory
    plain = directory.decoder_configuration()
    experts = with_deferred(plain.experts, deferred, directory.name)
    return replace(directory, configuration=replace(plain, experts=experts))


def choose_dtype(asked: str, checkpoint_dtype: str | None) -> str:
    """Give the dtype to compute in; "auto" is the checkpoint's, 16-bit kinds as bfloat16."""
    if asked != "auto":
        return asked
    return "bfloat16" if checkpoint_dtype in {"bfloat16", "float16"} else "float32"


def model_graph(directory: ModelDirectory, dtype: str, settings: Settings) -> Graph:
    """Return the graph that serves a model: a decoder's step, or an encoder."""
    graph = plain_graph(directory, dtype, settings)
    if directory.quantisation is None:
        return graph
    return quantized_model(directory, directory.open_weights(), graph, dtype=dtype).graph


def plain_graph(
    directory: ModelDirectory,
    dtype: str,
    settings: Settings,
    *,
    cache_format: str | None = None,
    gives_hidden: bool = False,
) -> Graph:
    """Return the graph that would serve a model whose weights are all floats.

    `cache_format` names how a decoder keeps keys and values; None keeps them in `dtype`. With
    `gives_hidden` a decoder gives its hidden states too.
    """
    configuration = directory.configuration
    cache = settings.cache_directory
    if isinstance(configuration, EncoderConfiguration):
        return encoder_graph(configuration, dtype=dtype, cache_directory=cache)
    return decoder_step_graph(
        configuration,
        dtype=dtype,
        cache_format=cache_format,
        gives_hidden=gives_hidden,
        cache_directory=cache,
    )


def quantized(
    directory: ModelDirectory,
    weights: CheckpointWeights,
    graph: Graph,
    options: EngineOptions,
    dtype: str,
) -> QuantizedModel:
    """Join graph and weights, rounded as the options ask, and say what stayed floats."""
    model = quantized_model(
        directory,
        weights,
        graph,
        dtype=dtype,
        rounding=rounding_choice(options),
        activation=options.activation,
    )
    if model.widened:
        _logger.warning(
            "the experts of %s stay %s; only its %d other layers are quantised",
            directory.name,
            dtype,
            model.layers,
        )
    return model


def rounding_choice(options: EngineOptions) -> RoundingChoice | None:
    """How ordinary weights are rounded, where that is asked for."""
    if options.quantization is None:
        return None
    return RoundingChoice(
        options.quantization,
        activation=options.activation,
        output=options.quantization_output or OUTPUT_FORMAT,
    )


def packed_weights_key(directory: ModelDirectory, model: QuantizedModel) -> str:
    """Name what is packed: the files, how they are quantised, and the graph that reads them."""
    schemes = repr((directory.quantisation, sorted(model.schemes.items())))
    return packed_key(checkpoint_identity(directory.path), schemes, print_graph(model.graph))


def compile_and_pack(
    model: QuantizedModel,
    device: Device,
    *,
    settings: Settings,
    say: Progress,
    key: str | None = None,
) -> Executable:
    """Compile the graph of a model for a device and fill it with its weights, as `fill` does."""
    executable = compile_model(model, device, settings=settings, say=say)
    fill(executable, model, device, settings=settings, say=say, key=key)
    return executable


def compile_model(
    model: QuantizedModel,
    device: Device,
    *,
    settings: Settings,
    say: Progress,
    mode: str = "fast",
) -> Executable:
    """Compile the graph of a model for a device and a mode; no weight is read yet."""
    graph, weights = model.graph, model.weights
    # Before the long work, and with every missing name at once.
    weights.require(weight_shapes(graph))
    say("Compiling", 0, 1)
    options = CompileOptions(
        cache_directory=settings.cache_directory,
        compiler_command=settings.compiler_command,
        instruction_set=instruction_set_of(mode),
    )
    try:
        executable = compile_graph(graph, device=device, options=options)
    except CompilerMissing as error:
        _logger.warning("%s; running on the interpreter, which is very slow", error)
        executable = compile_graph(graph, device=device, target="interpreter", options=options)
    return executable


def fill(
    executable: Executable,
    model: QuantizedModel,
    device: Device,
    *,
    settings: Settings,
    say: Progress,
    key: str | None,
) -> None:
    """Give a program the weights of its model.

    With a `key` (see `packed_weights_key`) packed weights are kept on disk, or found there.
    """
    warm = None
    if key is not None and settings.packed_cache_bytes and isinstance(device, CpuDevice):
        warm = WarmStart(settings, key)
    if warm is not None and warm.find(executable, say):
        return
    executable.load_weights(model.weights, lambda done, total: say("Packing weights", done, total))
    if warm is not None:
        warm.keep(executable, say)


def weight_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The weights that a graph reads, with their shapes."""
    weights = (node for node in graph.inputs if node.attr("role") == "weight")
    return {
        str(node.attr("name")): tuple(size for size in node.shape if isinstance(size, int))
        for node in weights
    }


def say_nothing(stage: str, num_done: int, num_all: int) -> None:
    """Progress that nobody asked for."""
