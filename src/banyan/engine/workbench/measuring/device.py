"""A whole profile of one device: its ceilings, and what compiled programs reach.

Takes minutes; `banyan devices --measure` keeps the result. The one place that puts the parts of a
profile together.
"""

import statistics
import time
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from banyan.compiler.options import CompileOptions
from banyan.devices.chip import DeviceFacts
from banyan.devices.device import Device
from banyan.devices.discovery import find_device, known_probes, search_devices
from banyan.devices.measure import Effort, Progress, measure_cpu
from banyan.devices.profile import DeviceProfile, fingerprint_of
from banyan.devices.rates import DecodeRate, LinearRate
from banyan.engine.workbench.measuring.effort import MEBIBYTE, ProgramEffort
from banyan.engine.workbench.measuring.rates import (
    BYTES_OF_WEIGHT,
    Overhead,
    Workshop,
    attention_rates,
    linear_rates,
    measure_overhead,
    row_rates,
)
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings

_COPIED_BYTES = 64 * MEBIBYTE


@dataclass(frozen=True, slots=True)
class Copies:
    """Attributes:
    in_bytes_per_second: host to device.
    out_bytes_per_second: device to host.
    seconds: of copying 64 bytes in.
    """

    in_bytes_per_second: float
    out_bytes_per_second: float
    seconds: float


def measure_device(
    name: str,
    *,
    settings: Settings,
    measured_on: str,
    effort: ProgramEffort | None = None,
    ceilings: Effort | None = None,
    progress: Progress | None = None,
) -> DeviceProfile:
    """Measure "cpu", "opencl:0", "cuda:0", ...: under five minutes at the default effort.

    Args:
        name: of a device of this machine.
        settings: where programs and native loops are kept.
        measured_on: the day, YYYY-MM-DD, kept in the profile.
        effort: for compiled programs; see `ProgramEffort`.
        ceilings: for the loops that find what the CPU can reach; not used for other devices.
        progress: told what is measured now, as `devices.measure.Progress`.

    Raises:
        InputError: the device is not on this machine, or has nothing to measure: it imitates one.
        DeviceMissing: it is here, but no programs are made for it.
        CompilerMissing, CompilationFailed, EnvironmentProblem: as its programs need.
    """
    facts = measurable_facts(name)
    tell = progress or (lambda what, done, total: None)
    chosen = effort or ProgramEffort()
    base = None
    if facts.name == "cpu":
        base = measure_cpu(
            settings=settings, measured_on=measured_on, effort=ceilings, progress=progress
        )
    count = _Count(tell, _number_of_buckets(chosen))
    with closing(find_device(name, settings=settings)) as device:
        options = CompileOptions(settings.cache_directory, settings.compiler_command)
        shop = Workshop(device, options, chosen, count.next)
        overhead = measure_overhead(shop)
        linear = tuple(linear_rates(shop, overhead))
        attention = list(attention_rates(shop, overhead))
        rows = tuple(row_rates(shop, overhead))
        count.next("copies")
        copies = measure_copies(shop)
    decode = tuple(rate for rates, _ in attention for rate in rates)
    prefill = tuple(rate for _, rates in attention for rate in rates)
    profile = base or _without_ceilings(facts, measured_on, linear, decode, overhead)
    tell("done", count.total, count.total)
    return replace(
        profile,
        device=facts.name,
        copy_bytes_per_second=copies.in_bytes_per_second,
        copy_back_bytes_per_second=copies.out_bytes_per_second,
        copy_seconds=copies.seconds,
        kernel_seconds=overhead.kernel_seconds,
        linear_rates=linear,
        decode_rates=decode,
        prefill_rates=prefill,
        row_rates=rows,
    )


def measurable_facts(name: str) -> DeviceFacts:
    """The facts of a device that can be measured; "opencl" is "opencl:0".

    Raises:
        InputError: there is no such device, or measuring it would say nothing.
    """
    if name in {"null", "simulated", "triton"}:
        raise InputError(
            f"device {name!r} imitates a chip, so its speed says nothing; measure a real one, "
            "for example cpu"
        )
    found = [device for finding in search_devices(known_probes()) for device in finding.devices]
    wanted = "cpu" if name == "auto" else name
    for facts in found:
        if wanted in {facts.name, facts.name.removesuffix(":0")}:
            return facts
    here = ", ".join(facts.name for facts in found)
    raise InputError(f"device {name!r} is not on this machine; here: {here}")


def measure_copies(shop: Workshop) -> Copies:
    """Copy large and small arrays to the device and back."""
    device = shop.device
    host = np.ones(min(_COPIED_BYTES, shop.effort.cold_bytes), np.uint8)
    buffer = device.allocate(host.nbytes)
    watch = shop.stopwatch

    def copy_in(_: int) -> None:
        device.copy_in(host, buffer)
        device.synchronize()

    copy_in(0)  # the first touch of memory is no copy
    into = watch.median(copy_in)
    back = watch.median(lambda _: device.copy_out(buffer, host))
    return Copies(host.nbytes / into, host.nbytes / back, _small_copy_seconds(device))


def _small_copy_seconds(device: Device) -> float:
    small, buffer = np.ones(64, np.uint8), device.allocate(64)
    taken = []
    for _ in range(200):
        began = time.perf_counter()
        device.copy_in(small, buffer)
        device.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _without_ceilings(
    facts: DeviceFacts,
    measured_on: str,
    linear: tuple[LinearRate, ...],
    decode: tuple[DecodeRate, ...],
    overhead: Overhead,
) -> DeviceProfile:
    """A profile of a chip whose ceilings are the most that a program of ours reached."""
    read = [rate.bytes_per_second for rate in decode]
    read += [rate.weights_per_second * BYTES_OF_WEIGHT[rate.weights] for rate in linear]
    peaks: dict[str, float] = {}
    for rate in linear:
        peaks[rate.weights] = max(peaks.get(rate.weights, 0.0), rate.operations_per_second)
    peaks.pop("int4", None)  # not an element type that a chip computes in
    return DeviceProfile(
        fingerprint=fingerprint_of(facts, num_threads=facts.cores),
        model=facts.model,
        measured_on=measured_on,
        num_threads=facts.cores,
        read_bytes_per_second=max(read),
        read_bytes_per_second_one_thread=max(read),
        copy_bytes_per_second=max(read),
        operations_per_second=tuple(peaks.items()),
        operations_per_second_one_thread=(),
        launch_seconds=overhead.run_seconds,
    )


@dataclass(slots=True)
class _Count:
    """Counts what is said, so that progress has an end."""

    tell: Progress
    total: int
    done: int = 0

    def next(self, what: str) -> None:
        self.tell(what, min(self.done, self.total - 1), self.total)
        self.done += 1


def _number_of_buckets(effort: ProgramEffort) -> int:
    attention = len(effort.contexts) * len(effort.sequences) + len(effort.prompts)
    linear = (len(effort.formats) + 2) * len(effort.rows)
    return linear + len(effort.caches) * attention + 2
