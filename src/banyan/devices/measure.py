"""Measure what this processor can do: memory and arithmetic ceilings, in a few seconds.

The numbers become a `DeviceProfile`. They are ceilings: operands stay in registers, and memory is
read in the way that suits it best. Kernels are judged by their share of these.
"""

import ctypes
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from banyan.devices.chip import DeviceFacts, Topology
from banyan.devices.cpu import CpuDevice
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.device import Program
from banyan.devices.discovery import find_device
from banyan.devices.host_memory import HostBuffer, allocate_host_memory
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.devices.native import OPTIMISED_FLAGS, Missing, build_shared_object, find_compiler
from banyan.devices.profile import DeviceProfile, fingerprint_of, load_profile, save_profile
from banyan.devices.thread_pool import NATIVE_DIRECTORY
from banyan.foundation.errors import CompilerMissing
from banyan.foundation.settings import Settings

# The order of `loops` in native/measure.cpp.
FORMATS = ("float32", "bfloat16", "int8")

Progress = Callable[[str, int, int], None]
"""Called with what is measured now, how many numbers are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much time to spend.

    Attributes:
        rounds: measurements per number; the median counts.
        seconds_per_round: at least so long, so that starting threads does not show.
        memory_bytes: read per round; None takes four times the last cache, at least 256 MiB.
    """

    rounds: int = 5
    seconds_per_round: float = 0.05
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class _Measurement:
    """Everything the single measurements share."""

    library: ctypes.CDLL
    image: Path
    device: CpuDevice
    effort: Effort
    memory: HostBuffer
    operations: ctypes.c_double = field(default_factory=ctypes.c_double)


def kept_or_measured_profile(
    *,
    settings: Settings,
    measured_on: str,
    progress: Progress | None = None,
    effort: Effort | None = None,
) -> DeviceProfile:
    """The CPU's profile; measured and kept first where that was never done.

    Raises:
        CompilerMissing, EnvironmentProblem: as `measure_cpu`.
        StorageFull: the profile cannot be kept.
    """
    facts = CpuProbe().inventory()[0]
    fingerprint = fingerprint_of(facts, num_threads=facts.cores)
    kept = load_profile(fingerprint, settings.cache_directory)
    if kept is not None:
        return kept
    profile = measure_cpu(
        settings=settings, measured_on=measured_on, progress=progress, effort=effort
    )
    save_profile(profile, settings.cache_directory)
    return profile


def measure_cpu(
    *,
    settings: Settings,
    measured_on: str,
    num_threads: int | None = None,
    progress: Progress | None = None,
    effort: Effort | None = None,
) -> DeviceProfile:
    """Measure the CPU with one and with all threads; about ten seconds at the default effort.

    `measured_on` is the day, YYYY-MM-DD, kept in the profile.

    Raises:
        CompilerMissing: the loops are C++ and there is no compiler.
        InputError: `num_threads` is below 1.
        EnvironmentProblem: there is not enough memory to read.
    """
    probe = CpuProbe()
    facts = probe.inventory()[0]
    device = find_device("cpu", settings=settings, num_threads=num_threads)
    assert isinstance(device, CpuDevice)
    tell = progress or (lambda what, done, total: None)
    between = threads_between(device.num_threads)
    steps = 3 + 2 * len(FORMATS) + len(between)
    tell("building the loops", 0, steps)
    measurement = _prepare(settings, device, effort or Effort(), facts, probe.topology())
    rates: list[float] = []
    for threads in (1, device.num_threads):
        tell(f"reading memory, {threads} thread(s)", len(rates), steps)
        rates.append(_read_rate(measurement, threads))
        for index, name in enumerate(FORMATS):
            tell(f"{name} arithmetic, {threads} thread(s)", len(rates), steps)
            rates.append(_peak(measurement, index, threads))
    one, every = rates[: 1 + len(FORMATS)], rates[1 + len(FORMATS) :]
    reads = {1: one[0], device.num_threads: every[0]}
    for threads in between:
        tell(f"reading memory, {threads} threads", len(rates) + len(reads) - 2, steps)
        reads[threads] = _read_rate(measurement, threads)
    tell("launching", steps - 1, steps)
    launch_seconds = _launch_seconds(measurement)
    device.close()
    tell("done", steps, steps)
    return DeviceProfile(
        fingerprint=fingerprint_of(facts, num_threads=device.num_threads),
        model=facts.model,
        measured_on=measured_on,
        num_threads=device.num_threads,
        read_bytes_per_second=every[0],
        read_bytes_per_second_one_thread=one[0],
        copy_bytes_per_second=every[0],
        operations_per_second=_known_rates(every[1:]),
        operations_per_second_one_thread=_known_rates(one[1:]),
        launch_seconds=launch_seconds,
        read_rates=tuple(sorted(reads.items())),
    )


def threads_between(num_threads: int) -> tuple[int, ...]:
    """The powers of two between 1 and all threads: how many it takes to fill the memory bus."""
    return tuple(2**i for i in range(1, num_threads.bit_length()) if 2**i < num_threads)


def _prepare(
    settings: Settings, device: CpuDevice, effort: Effort, facts: DeviceFacts, topology: Topology
) -> _Measurement:
    compiler = find_compiler(settings.compiler_command)
    if isinstance(compiler, Missing):
        raise CompilerMissing(compiler.reason)
    level = detect_instruction_sets()[0]
    built = build_shared_object(
        (NATIVE_DIRECTORY / "measure.cpp").read_text(encoding="utf-8"),
        flags=(*OPTIMISED_FLAGS, *level.compiler_flags),
        cache_directory=settings.cache_directory,
        name=f"measure-{level.name}",
        include_directories=(NATIVE_DIRECTORY,),
        compiler=compiler,
    )
    library = ctypes.CDLL(str(built.path))
    library.banyan_measure_read.restype = ctypes.c_double
    library.banyan_measure_read.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32]
    library.banyan_measure_peak.restype = ctypes.c_double
    library.banyan_measure_peak.argtypes = [
        ctypes.c_int32,
        ctypes.c_int64,
        ctypes.c_int32,
        ctypes.POINTER(ctypes.c_double),
    ]
    num_bytes = effort.memory_bytes or bytes_to_read(topology, facts.memory_bytes)
    memory = allocate_host_memory(num_bytes)
    # Written once, so that every page is real: untouched pages all read the same zero page.
    memory.array(np.dtype(np.uint8), (num_bytes,)).fill(1)
    return _Measurement(library, built.path, device, effort, memory)


def bytes_to_read(topology: Topology, memory_bytes: int) -> int:
    """Choose how much to read so that caches do not answer, within a quarter of the memory."""
    return min(max(256 * 1024 * 1024, 4 * last_cache_bytes(topology)), memory_bytes // 4)


def last_cache_bytes(topology: Topology) -> int:
    """All caches of the last level together."""
    last = max((cache.level for cache in topology.caches), default=0)
    return sum(cache.num_bytes for cache in topology.caches if cache.level == last)


def _read_rate(measurement: _Measurement, threads: int) -> float:
    memory = measurement.memory
    seconds = [
        float(measurement.library.banyan_measure_read(memory.address, memory.num_bytes, threads))
        for _ in range(measurement.effort.rounds)
    ]
    return memory.num_bytes / statistics.median(seconds)


def _peak(measurement: _Measurement, number_format: int, threads: int) -> float:
    """Operations per second; 0 where the instruction set has no such instruction."""

    def run(iterations: int) -> float:
        seconds: float = measurement.library.banyan_measure_peak(
            number_format, iterations, threads, ctypes.byref(measurement.operations)
        )
        return seconds

    iterations = 1000
    while run(iterations) < measurement.effort.seconds_per_round:
        if measurement.operations.value == 0:
            return 0.0
        iterations *= 2
    seconds = [run(iterations) for _ in range(measurement.effort.rounds)]
    return measurement.operations.value / statistics.median(seconds)


def _launch_seconds(measurement: _Measurement) -> float:
    """What a launch costs before any work: the call, and one loop over all threads."""
    program = Program("empty", "cpp", measurement.image, "banyan_run", 0, 0, 0)
    loaded = measurement.device.load(program)
    seconds = []
    for _ in range(20 * measurement.effort.rounds):
        began = time.perf_counter()
        measurement.device.launch(loaded, [], [])
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _known_rates(rates: list[float]) -> tuple[tuple[str, float], ...]:
    """Pair formats with rates, without those that this processor has no instruction for."""
    return tuple((name, rate) for name, rate in zip(FORMATS, rates, strict=True) if rate > 0)
