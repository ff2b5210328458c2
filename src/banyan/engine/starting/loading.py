"""From a model's name to something that runs: open, capture, compile, pack, size the cache.

The one place of this layer that knows models, compiler and devices at once. On a warm start the
graph comes from the cache and torch is never imported. Called by `LLM`, the engine
process, and the loading of models that pool.
"""

import logging
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from banyan.compiler.compile import CompileOptions, Executable, compile_graph
from banyan.compiler.ir.cached import CacheFormat
from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.packed_cache import packed_key
from banyan.devices.cpu import CpuDevice
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.devices.opencl import OpenClDevice
from banyan.engine.adapters.opening import adapter_room, open_library
from banyan.engine.batch_generation import Progress
from banyan.engine.engine import Engine
from banyan.engine.options import EngineOptions
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speculation.making import LoadedDraft, make_speculator
from banyan.engine.starting.cache_size import CacheShape, choose_cache_format
from banyan.engine.starting.determinism import (
    instruction_set_of,
    prove_mode,
    require_deterministic,
)
from banyan.engine.starting.memory_plan import plan_memory
from banyan.engine.starting.spill_choice import choose_spill
from banyan.engine.starting.warm_start import WarmStart
from banyan.engine.structure.guidance import StructureCompiler
from banyan.foundation.errors import CompilerMissing, InputError
from banyan.foundation.settings import Settings
from banyan.models.adapters.graph import adapted_graph
from banyan.models.checkpoint_identity import checkpoint_identity
from banyan.models.configuration import EncoderConfiguration, ModelConfiguration
from banyan.models.loading import GenerationDefaults, ModelDirectory, open_model
from banyan.models.quantisation.rounded import RoundingChoice
from banyan.models.quantized_model import QuantizedModel, quantized_model
from banyan.models.step_graph import decoder_step_graph, encoder_graph
from banyan.models.weights import CheckpointWeights

_logger = logging.getLogger("banyan.engine")

_Loaded = TypeVar("_Loaded")

OUTPUT_FORMAT = "int8"
"""Of the output matrix when ordinary weights are rounded: 4 bits would cost too much there."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A decoder that is ready to serve.

    Attributes:
        directory: tokenizer, chat template and configuration.
        engine: serves requests; idle.
        executable: the compiled step, with its report.
        default_options: what the model's generation_config.json proposes.
        device: runs the step; closed by `close`.
    """

    directory: ModelDirectory
    engine: Engine
    executable: Executable
    default_options: SamplingOptions
    device: Device

    def close(self) -> None:
        """Stop the threads of the engine and of the device."""
        self.engine.close()
        self.device.close()


def load_model(
    model: str, options: EngineOptions, *, settings: Settings, progress: Progress | None = None
) -> LoadedModel:
    """Make a decoder ready to serve.

    Raises:
        ModelError: the model cannot be used.
        InputError: an option cannot be used with this model or on this machine.
        EnvironmentProblem: the machine lacks something.
    """
    say = progress or say_nothing
    directory = open_directory(model, replace(options, task="generate"), settings, say)
    configuration = directory.decoder_configuration()
    weights = directory.open_weights()
    dtype = choose_dtype(options.dtype, configuration.checkpoint_dtype)

    form = choose_cache_format(options.kv_cache_dtype, dtype=dtype, head_dim=configuration.head_dim)

    def build(device: Device) -> LoadedModel:
        # Measured before the weights are there: mapped ones count as memory that can be had.
        free_bytes = free_memory_bytes(device)
        require_deterministic(options, device)
        say("Capturing the graph", 0, 1)
        graph = plain_graph(directory, dtype, settings, cache_format=form.name)
        model = quantized(directory, weights, graph, options, dtype)
        room = adapter_room(options, configuration, dtype, free_bytes=free_bytes)
        if room is not None:
            model = replace(model, graph=adapted_graph(model.graph, room))
            free_bytes -= room.num_bytes
        key = packed_weights_key(directory, model)
        executable = compile_model(model, device, settings=settings, say=say, mode=options.mode)
        draft = _load_draft(directory, options, device, settings=settings, say=say)
        draft_bytes = draft.executable.weight_bytes if draft else 0
        free_bytes -= draft_bytes
        shape, longest = cache_shape(configuration, form), configuration.max_position_embeddings
        plan = plan_memory(options, executable, device, free_bytes=free_bytes, longest=longest)
        limits = plan.limits(options, shape, longest=longest)
        fill(executable, model, device, settings=settings, say=say, key=key)
        executable.allocate_state({"num_blocks": limits.num_blocks})
        prove_mode(options.mode, executable, limits, vocab_size=configuration.vocab_size)
        engine = Engine(
            executable,
            limits,
            vocab_size=configuration.vocab_size,
            end_token_ids=directory.generation.eos_token_ids,
            tokenizer=directory.tokenizer,
            seed=options.seed,
            speculator=make_speculator(
                options.speculation, limits, draft, configuration.vocab_size
            ),
            structures=_structures(directory, configuration),
            enable_prefix_caching=options.enable_prefix_caching,
            policy=options.queue_policy(),
            spill=choose_spill(options, executable, limits, model_key=key),
            adapters=open_library(options, room, executable),
        )
        defaults = options_from_defaults(directory.generation)
        return LoadedModel(directory, engine, executable, defaults, device)

    return on_device(options, settings, build)


def _structures(directory: ModelDirectory, configuration: ModelConfiguration) -> StructureCompiler:
    return StructureCompiler(
        directory.tokenizer.to_json,
        vocab_size=configuration.vocab_size,
        end_token_ids=directory.generation.eos_token_ids,
    )


def _load_draft(
    target: ModelDirectory,
    options: EngineOptions,
    device: Device,
    *,
    settings: Settings,
    say: Progress,
) -> LoadedDraft | None:
    """Load the model that guesses, where one is asked for, on the device of the other."""
    if options.speculation is None or options.speculation.model is None:
        return None
    writing = replace(options, task="generate")
    directory = open_directory(options.speculation.model, writing, settings, say)
    configuration = directory.decoder_configuration()
    vocab_size = target.decoder_configuration().vocab_size
    same_words = all(
        directory.tokenizer.token_text(i) == target.tokenizer.token_text(i)
        for i in range(vocab_size)
    )
    if not same_words:
        raise InputError(
            f"speculation: the draft model {directory.name} has another vocabulary than "
            f"{target.name}; use a model of the same family"
        )
    dtype = choose_dtype(options.dtype, configuration.checkpoint_dtype)
    graph = plain_graph(directory, dtype, settings)
    model = quantized(directory, directory.open_weights(), graph, options, dtype)
    key = packed_weights_key(directory, model)
    executable = compile_and_pack(model, device, settings=settings, say=say, key=key)
    return LoadedDraft(executable, configuration.max_position_embeddings)


def model_graph(directory: ModelDirectory, dtype: str, settings: Settings) -> Graph:
    """Return the graph that serves a model: a decoder's step, or an encoder."""
    graph = plain_graph(directory, dtype, settings)
    if directory.quantisation is None:
        return graph
    return quantized_model(directory, directory.open_weights(), graph, dtype=dtype).graph


def plain_graph(
    directory: ModelDirectory, dtype: str, settings: Settings, *, cache_format: str | None = None
) -> Graph:
    """Return the graph that would serve a model whose weights are all floats.

    `cache_format` names how a decoder keeps keys and values; None keeps them in `dtype`.
    """
    configuration = directory.configuration
    cache = settings.cache_directory
    if isinstance(configuration, EncoderConfiguration):
        return encoder_graph(configuration, dtype=dtype, cache_directory=cache)
    return decoder_step_graph(
        configuration, dtype=dtype, cache_format=cache_format, cache_directory=cache
    )


def choose_dtype(asked: str, checkpoint_dtype: str | None) -> str:
    """Give the dtype to compute in; "auto" is the checkpoint's, 16-bit kinds as bfloat16."""
    if asked != "auto":
        return asked
    return "bfloat16" if checkpoint_dtype in {"bfloat16", "float16"} else "float32"


def options_from_defaults(defaults: GenerationDefaults) -> SamplingOptions:
    """Sampling options as a model proposes them; ours where it is silent."""
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    proposed: dict[str, Any] = {name: getattr(defaults, name) for name in names}
    return SamplingOptions(**{name: v for name, v in proposed.items() if v is not None})


def free_memory_bytes(device: Device | None = None) -> int:
    """Memory that this process can still take: of the machine, its control group, the device."""
    probe = CpuProbe()
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    of_machine = machine_bytes - probe.usage()[0].memory_used_bytes
    own_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    free = [of_machine, probe.inventory()[0].memory_bytes - own_bytes]
    if isinstance(device, OpenClDevice):
        free = [device.free_bytes] if not device.is_cpu else [*free, device.free_bytes]
    return max(0, min(free))


def say_nothing(stage: str, num_done: int, num_all: int) -> None:
    """Progress that nobody asked for."""


def open_directory(
    model: str, options: EngineOptions, settings: Settings, say: Progress
) -> ModelDirectory:
    """Open the directory of a model for the task that the options ask for."""
    say("Opening the model", 0, 1)
    return open_model(model, offline=settings.offline, task=options.task)


def on_device(
    options: EngineOptions, settings: Settings, build: Callable[[Device], _Loaded]
) -> _Loaded:
    """Open the device and build on it; when that fails the device is closed again."""
    device = find_device(options.device, settings=settings, num_threads=options.threads)
    try:
        return build(device)
    except BaseException:
        device.close()
        raise


def quantized(
    directory: ModelDirectory,
    weights: CheckpointWeights,
    graph: Graph,
    options: EngineOptions,
    dtype: str,
) -> QuantizedModel:
    """Join graph and weights, rounded as the options ask, and say what stayed floats."""
    rounding = None
    if options.quantization is not None:
        rounding = RoundingChoice(
            options.quantization,
            activation=options.activation,
            output=options.quantization_output or OUTPUT_FORMAT,
        )
    model = quantized_model(
        directory, weights, graph, dtype=dtype, rounding=rounding, activation=options.activation
    )
    if model.widened:
        _logger.warning(
            "the experts of %s stay %s; only its %d other layers are quantised",
            directory.name,
            dtype,
            model.layers,
        )
    return model


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
    weights.require(_weight_shapes(graph))
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


def _weight_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    weights = (node for node in graph.inputs if node.attr("role") == "weight")
    return {
        str(node.attr("name")): tuple(size for size in node.shape if isinstance(size, int))
        for node in weights
    }


def cache_shape(configuration: ModelConfiguration, form: CacheFormat) -> CacheShape:
    """Say what one token place in the cache of a decoder costs."""
    return CacheShape(
        num_layers=configuration.num_layers,
        num_kv_heads=configuration.num_kv_heads,
        head_dim=configuration.head_dim,
        form=form,
    )
