"""Tunes the layers of one model on this machine and keeps what it finds."""

from contextlib import closing

from banyan.compiler.compile import CompileOptions
from banyan.compiler.schedules.evidence import Finding
from banyan.compiler.schedules.known import open_evidence
from banyan.compiler.tuner.search import Bench, linear_shapes, tune
from banyan.devices.cpu import CpuDevice
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.discovery import find_device
from banyan.devices.measure import bytes_to_read, kept_or_measured_profile
from banyan.devices.recorder import LaunchRecorder
from banyan.engine.batch_generation import Progress
from banyan.engine.starting.compiling import choose_dtype, model_graph
from banyan.foundation.settings import Settings
from banyan.models.loading import open_model

ROWS = (1, 16, 512)
"""An answer, a batch of answers, a prompt."""


def tune_model(
    model: str,
    *,
    dtype: str,
    fresh: bool,
    settings: Settings,
    measured_on: str,
    progress: Progress,
) -> list[Finding]:
    """Search the blocks of every layer, or with `fresh` False of those never tuned here.

    What is found is kept after each layer, so stopping early loses one layer's work at most.

    Raises:
        ModelError: the model cannot be used.
        CompilerMissing: candidates are C++ and there is no compiler.
        StorageFull: the evidence cannot be kept.
    """
    progress("Capturing the graph", 0, 1)
    directory = open_model(model, offline=settings.offline)
    chosen = choose_dtype(dtype, directory.configuration.checkpoint_dtype)
    shapes = linear_shapes(model_graph(directory, chosen, settings))
    evidence = open_evidence(settings.cache_directory)
    known = set() if fresh else {shape for shape, _ in evidence.blocks()}
    wanted = [shape for shape in shapes if shape not in known]
    profile = kept_or_measured_profile(
        settings=settings, measured_on=measured_on, progress=progress
    )
    probe = CpuProbe()
    cold = bytes_to_read(probe.topology(), probe.inventory()[0].memory_bytes)
    findings = []
    with closing(find_device("cpu", settings=settings)) as device:
        assert isinstance(device, CpuDevice)
        bench = Bench(
            device=device,
            recorder=LaunchRecorder(settings.cache_directory),
            profile=profile,
            options=CompileOptions(settings.cache_directory, settings.compiler_command),
            rows=ROWS,
            cold_bytes=cold,
            measured_on=measured_on,
        )
        for finding in tune(wanted, bench, progress):
            evidence.keep([finding])
            findings.append(finding)
    return findings
