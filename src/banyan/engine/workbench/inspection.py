"""A model's compiled program opened up: its graph, its text, and where its time goes."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from banyan.compiler.compile import CompileOptions, LoweredProgram, lower_for
from banyan.compiler.ir.graph import Graph
from banyan.compiler.report import CompileReport
from banyan.compiler.tuner.timeline import Timeline
from banyan.devices.cpu import CpuDevice
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.measure import kept_or_measured_profile, last_cache_bytes
from banyan.devices.profile import DeviceProfile
from banyan.devices.recorder import LaunchRecorder
from banyan.engine.batch_generation import Progress
from banyan.engine.options import EngineOptions
from banyan.engine.pooling.loading import LoadedPooler, load_pooler
from banyan.engine.starting.compiling import choose_dtype, model_graph
from banyan.engine.starting.loading import LoadedModel, load_model
from banyan.engine.workbench.rehearsal import (
    Rehearsal,
    Stage,
    decoder_rehearsals,
    encoder_rehearsals,
    rehearse,
)
from banyan.foundation.settings import Settings
from banyan.models.configuration import EncoderConfiguration
from banyan.models.loading import ModelDirectory, open_model

LONGEST_CONTEXT = 1024


@dataclass(frozen=True, slots=True)
class Inspection:
    """Attributes:
    report: what compiling did.
    captured: the graph before any pass.
    program: the graph after all of them, and its text.
    timelines: measured runs; none on devices whose kernels cannot be timed one by one.
    """

    report: CompileReport
    captured: Graph
    program: LoweredProgram
    timelines: tuple[Timeline, ...]


def inspect_model(
    model: str, *, device: str, dtype: str, settings: Settings, progress: Progress
) -> Inspection:
    """Compile and load a model, run it, and look at every kernel.

    Raises:
        ModelError: the model cannot be used.
        EnvironmentProblem: the machine lacks something.
    """
    directory = open_model(model, offline=settings.offline)
    chosen = choose_dtype(dtype, directory.configuration.checkpoint_dtype)
    graph = model_graph(directory, chosen, settings)
    with closing(_load(model, directory, device, dtype, settings, progress)) as loaded:
        options = CompileOptions(
            cache_directory=settings.cache_directory, compiler_command=settings.compiler_command
        )
        program = lower_for(graph, device=loaded.device, options=options)
        timelines: tuple[Timeline, ...] = ()
        if isinstance(loaded.device, CpuDevice):
            today = datetime.now(UTC).date().isoformat()
            profile = kept_or_measured_profile(
                settings=settings, measured_on=today, progress=progress
            )
            progress("Running", 0, 1)
            recorder = LaunchRecorder(settings.cache_directory)
            timelines = tuple(_timelines(loaded, program, loaded.device, recorder, profile))
        return Inspection(loaded.executable.report, graph, program, timelines)


def _load(
    model: str,
    directory: ModelDirectory,
    device: str,
    dtype: str,
    settings: Settings,
    progress: Progress,
) -> LoadedModel | LoadedPooler:
    if directory.task != "generate":
        options = EngineOptions(device=device, dtype=dtype)
        return load_pooler(model, options, settings=settings, progress=progress)
    longest = directory.configuration.max_position_embeddings
    options = EngineOptions(device=device, dtype=dtype, max_model_len=min(longest, LONGEST_CONTEXT))
    return load_model(model, options, settings=settings, progress=progress)


def _timelines(
    loaded: LoadedModel | LoadedPooler,
    program: LoweredProgram,
    device: CpuDevice,
    recorder: LaunchRecorder,
    profile: DeviceProfile,
) -> Iterator[Timeline]:
    rehearsals: Iterator[Rehearsal] = iter(())
    if isinstance(loaded, LoadedModel):
        rehearsals = decoder_rehearsals(loaded.engine.limits, loaded.eyes)
    elif isinstance(loaded.directory.configuration, EncoderConfiguration):
        rehearsals = encoder_rehearsals(loaded.runner.max_tokens)
    cache = last_cache_bytes(CpuProbe().topology())
    stage = Stage(loaded.executable, program, device, recorder, profile, cache)
    for rehearsal in rehearsals:
        yield rehearse(rehearsal, stage)
