"""From a model's name to something that runs: open, capture, compile, pack, size the cache.

The one place of this layer that knows models, compiler and devices at once. On a warm start the
graph comes from the cache and torch is never imported. Called by `LLM`, the engine
process, and the loading of models that pool.
"""

import logging
import os
import resource
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from banyan.compiler.compile import Executable
from banyan.compiler.ir.cached import CacheFormat
from banyan.compiler.ir.graph import Graph
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.devices.opencl import OpenClDevice
from banyan.engine.adapters.opening import adapter_room, open_library
from banyan.engine.batch_generation import Progress
from banyan.engine.engine import Engine
from banyan.engine.options import EngineLimits, EngineOptions
from banyan.engine.runner import StepModel
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speculation.making import LoadedDraft, make_speculator
from banyan.engine.starting.cache_size import CacheShape, choose_cache_format
from banyan.engine.starting.compiling import (
    choose_dtype,
    compile_and_pack,
    fill,
    open_directory,
    packed_weights_key,
    plain_graph,
    quantized,
    say_nothing,
)
from banyan.engine.starting.determinism import prove_mode, require_deterministic
from banyan.engine.starting.drafts import load_draft
from banyan.engine.starting.load_choice import choose_depth, choose_steady_load
from banyan.engine.starting.memory_plan import plan_memory
from banyan.engine.starting.spill_choice import choose_spill
from banyan.engine.starting.staging import compile_parts, compile_step
from banyan.engine.starting.worker_processes import WaitingWorkers
from banyan.engine.structure.guidance import StructureCompiler
from banyan.engine.vision.eyes import SeeingStep
from banyan.engine.vision.model_eyes import ModelEyes
from banyan.engine.vision.opening import open_eyes
from banyan.foundation.settings import Settings
from banyan.models.adapters.graph import adapted_graph
from banyan.models.configuration import ModelConfiguration
from banyan.models.loading import GenerationDefaults, ModelDirectory
from banyan.models.quantized_model import QuantizedModel

_logger = logging.getLogger("banyan.engine")

_Loaded = TypeVar("_Loaded")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A decoder that is ready to serve.

    Attributes:
        directory: tokenizer, chat template and configuration.
        engine: serves requests; idle.
        executable: the compiled step, with its report.
        default_options: what the model's generation_config.json proposes.
        device: runs the step; closed by `close`.
        eyes: what turns images into rows, None for a model that reads text only.
    """

    directory: ModelDirectory
    engine: Engine
    executable: Executable
    default_options: SamplingOptions
    device: Device
    eyes: ModelEyes | None = None

    def close(self) -> None:
        """Stop the threads of the engine and of the device, and the workers of a plan."""
        self.engine.close()
        self.executable.close()
        self.device.close()


def load_model(
    model: str,
    options: EngineOptions,
    *,
    settings: Settings,
    progress: Progress | None = None,
    waiting: WaitingWorkers | None = None,
) -> LoadedModel:
    """Make a decoder ready to serve; `waiting` has workers started for its plan ahead of time.

    Raises:
        ModelError: the model cannot be used.
        InputError: an option cannot be used with this model or on this machine.
        EnvironmentProblem: the machine lacks something.
    """
    start = _begin(model, options, settings, progress or say_nothing, waiting or WaitingWorkers())
    directory, dtype, say = start.directory, start.dtype, start.say
    configuration, weights = directory.decoder_configuration(), directory.open_weights()

    def build(device: Device, opened: ExitStack) -> LoadedModel:
        # Measured before the weights are there: mapped ones count as memory that can be had.
        free_bytes = free_memory_bytes(device)
        require_deterministic(options, device)
        draft = load_draft(directory, options, device, dtype=dtype, settings=settings, say=say)
        model = quantized(directory, weights, _step_graph(start, draft), options, dtype)
        room = adapter_room(options, configuration, dtype, free_bytes=free_bytes)
        if room is not None:
            model = replace(model, graph=adapted_graph(model.graph, room))
            free_bytes -= room.num_bytes
        executable = opened.enter_context(closing(_open_step(start, model, device)))
        eyes = _open_eyes(directory, dtype, device, options, settings=settings, say=say)
        free_bytes -= _bytes_beside(draft, eyes)
        limits = _limits(start, executable, device, draft, free_bytes)
        key = packed_weights_key(directory, model)
        fill(executable, model, device, settings=settings, say=say, key=start.packed_key(key))
        executable.allocate_state({"num_blocks": limits.num_blocks})
        words = configuration.vocab_size
        prove_mode(options.mode, _step(executable, eyes), limits, vocab_size=words)
        engine = Engine(
            executable,
            limits,
            vocab_size=words,
            end_token_ids=directory.generation.eos_token_ids,
            tokenizer=directory.tokenizer,
            seed=options.seed,
            speculator=make_speculator(options.speculation, limits, draft, words),
            structures=_structures(directory, configuration),
            enable_prefix_caching=options.enable_prefix_caching,
            policy=options.queue_policy(),
            spill=choose_spill(options, executable, limits, model_key=key),
            adapters=open_library(options, room, executable),
            eyes=eyes,
            steady_load=choose_steady_load(options, limits),
            depth=choose_depth(executable),
        )
        defaults = options_from_defaults(directory.generation)
        return LoadedModel(directory, engine, executable, defaults, device, eyes)

    return on_device(options, settings, partial(_closing_when_it_fails, build))


def _limits(
    start: "_Start",
    executable: Executable,
    device: Device,
    draft: LoadedDraft | None,
    free_bytes: int,
) -> EngineLimits:
    """What an engine may hold in the memory that is left beside its weights."""
    configuration, options = start.directory.decoder_configuration(), start.options
    longest = configuration.max_position_embeddings
    shape = cache_shape(configuration, start.form)
    shape = replace(shape, bytes_beside=draft.bytes_per_block if draft else 0)
    plan = plan_memory(options, executable, device, free_bytes=free_bytes, longest=longest)
    return plan.limits(options, shape, longest=longest)


def compile_parts_of(model: str, options: EngineOptions, *, settings: Settings) -> None:
    """Compile the parts of a plan that this host computes, so that a later start finds them.

    Loads no weights and starts no worker. Where a draft model or heads guess, nothing is compiled:
    they change the graph, and to read them takes memory that an engine has.

    Raises:
        ModelError: the model cannot be used.
        InputError: the plan or an option cannot be used with this model.
        EnvironmentProblem: the machine lacks something.
    """
    if options.plan is None or (options.speculation is not None and options.speculation.model):
        return
    start = _begin(model, options, settings, say_nothing, WaitingWorkers())
    directory, dtype = start.directory, start.dtype
    weights, configuration = directory.open_weights(), directory.decoder_configuration()
    graph = quantized(directory, weights, _step_graph(start, None), options, dtype).graph
    room = adapter_room(options, configuration, dtype, free_bytes=sys.maxsize)
    compile_parts(graph if room is None else adapted_graph(graph, room), options, settings=settings)


def _begin(
    model: str, options: EngineOptions, settings: Settings, say: Progress, waiting: WaitingWorkers
) -> "_Start":
    """Open a model's directory, and choose what it computes and caches in."""
    directory = open_directory(model, replace(options, task="generate"), settings, say)
    configuration = directory.decoder_configuration()
    dtype = choose_dtype(options.dtype, configuration.checkpoint_dtype)
    form = choose_cache_format(
        options.kv_cache_dtype,
        dtype=dtype,
        head_dim=configuration.cached_size,
        caches_values=configuration.caches_values,
    )
    return _Start(directory, options, settings, say, dtype, form, waiting)


@dataclass(frozen=True, slots=True)
class _Start:
    """What all of a start goes by."""

    directory: ModelDirectory
    options: EngineOptions
    settings: Settings
    say: Progress
    dtype: str
    form: CacheFormat
    waiting: WaitingWorkers

    def packed_key(self, key: str) -> str | None:
        """Under which packed weights are kept; under a plan they are in no one piece."""
        return None if self.options.plan else key


def _open_step(start: _Start, model: QuantizedModel, device: Device) -> Executable:
    """The compiled step, on the device or over those of a plan."""
    return compile_step(
        start.directory,
        model,
        device,
        start.options,
        settings=start.settings,
        say=start.say,
        dtype=start.dtype,
        cache_format=start.form.name,
        waiting=start.waiting,
    )


def _closing_when_it_fails(
    build: Callable[[Device, ExitStack], LoadedModel], device: Device
) -> LoadedModel:
    """Build, and close what was opened for a model that could not be built."""
    with ExitStack() as opened:
        loaded = build(device, opened)
        opened.pop_all()
        return loaded


def _open_eyes(
    directory: ModelDirectory,
    dtype: str,
    device: Device,
    options: EngineOptions,
    *,
    settings: Settings,
    say: Progress,
) -> ModelEyes | None:
    """The eyes of a model on the device of its decoder."""
    load = partial(compile_and_pack, device=device, settings=settings, say=say)
    return open_eyes(directory, dtype, settings, load, options.max_image_tokens)


def _bytes_beside(draft: LoadedDraft | None, eyes: ModelEyes | None) -> int:
    """Memory of what is loaded beside the decoder."""
    of_draft = draft.executable.weight_bytes if draft else 0
    return of_draft + (eyes.num_bytes if eyes else 0)


def _step(executable: Executable, eyes: ModelEyes | None) -> StepModel:
    """The decoder as those see it who know of no images."""
    return SeeingStep(executable, eyes) if eyes else executable


def _step_graph(start: _Start, draft: LoadedDraft | None) -> Graph:
    """The graph of a step, with the hidden states where what guesses reads them."""
    start.say("Capturing the graph", 0, 1)
    return plain_graph(
        start.directory,
        start.dtype,
        start.settings,
        cache_format=start.form.name,
        gives_hidden=draft is not None and draft.reads_hidden,
    )


def _structures(directory: ModelDirectory, configuration: ModelConfiguration) -> StructureCompiler:
    return StructureCompiler(
        directory.tokenizer.to_json,
        vocab_size=configuration.vocab_size,
        end_token_ids=directory.generation.eos_token_ids,
    )


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


def cache_shape(configuration: ModelConfiguration, form: CacheFormat) -> CacheShape:
    """Say what one token place in the cache of a decoder costs."""
    return CacheShape(
        num_layers=configuration.num_layers,
        num_kv_heads=configuration.num_kv_heads,
        head_dim=configuration.cached_size,
        form=form,
        num_kinds=2 if configuration.caches_values else 1,
    )
