"""Which devices are on this machine, which one is used, and why.

The one place that puts the list of chips together. Called by the command line, the Python API and
the doctor; everything below receives a device and does not ask where it came from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from banyan.devices import chips
from banyan.devices.chip import ChipSpec, DeviceFacts, No, Probe, Yes
from banyan.devices.cpu import CpuDevice
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.device import Device
from banyan.devices.native import Missing, find_compiler
from banyan.devices.null import NullDevice
from banyan.devices.opencl import OpenClDevice
from banyan.devices.opencl_driver import find_chips
from banyan.devices.opencl_probe import OpenClProbe
from banyan.devices.probing.registry import installed_plug_ins, plug_in_probes, vendor_probes
from banyan.devices.thread_pool import ThreadPool, open_thread_pool
from banyan.devices.torch_device import INTERPRETER, TorchDevice
from banyan.foundation.errors import CompilerMissing, DeviceMissing, EnvironmentProblem, InputError
from banyan.foundation.settings import Settings

AUTOMATIC = "auto"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the search for one kind of chip gave."""

    chip: ChipSpec
    answer: Yes | No
    devices: tuple[DeviceFacts, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The device that is used when nobody names one, and the reason in one sentence."""

    name: str
    reason: str


def known_probes() -> tuple[Probe, ...]:
    """Give the probe of every kind of chip that this version or an installed plug-in knows."""
    own = (CpuProbe(), *vendor_probes(chips), OpenClProbe())
    return (*own, *plug_in_probes(installed_plug_ins(), [probe.chip.name for probe in own]))


def search_devices(probes: Sequence[Probe]) -> tuple[Finding, ...]:
    """Ask every probe; one finding per kind of chip, also for those that are not here."""
    return tuple(_ask(probe) for probe in probes)


def _ask(probe: Probe) -> Finding:
    # A probe of a plug-in may fail in ways nobody foresaw; the other chips are here all the same.
    try:
        answer = probe.available()
        devices = tuple(probe.inventory()) if isinstance(answer, Yes) else ()
    except Exception as error:
        reason = f"its probe failed ({type(error).__name__}: {error}); report it to its author"
        return Finding(probe.chip, No(reason), ())
    return Finding(probe.chip, answer, devices)


def choose_device(findings: Sequence[Finding]) -> Choice:
    """Choose the default device among what was found.

    Other chips that were found are named in the reason, so that nobody wonders why they are idle.
    """
    idle = [
        f"{device.name} ({device.model})"
        for finding in findings
        for device in finding.devices
        if finding.chip.name not in {"cpu", "opencl"}
    ]
    reason = "the CPU is the one chip that programs of this version are proved on"
    if idle:
        reason += f"; found but not used: {', '.join(idle)}"
    return Choice("cpu", reason)


def find_device(
    name: str = AUTOMATIC, *, settings: Settings, num_threads: int | None = None
) -> Device:
    """Open a device: "cpu", "cuda:0", "opencl:0", "triton", "null"; "auto" is the default choice.

    "triton" runs programs for GPUs on Triton's interpreter: no chip, and very slow.

    `num_threads` is for the CPU; None takes every physical core this process may use. Other
    devices decide for themselves.

    Raises:
        DeviceMissing: there is no such device, or no programs are made for it; lists what is here.
        InputError: `num_threads` is below 1.
    """
    if num_threads is not None and num_threads < 1:
        raise InputError(f"threads={num_threads} is below 1; give 1 or more, or leave it out")
    if name == "null":
        return NullDevice()
    if name in {AUTOMATIC, "cpu"}:
        return _open_cpu(settings, num_threads)
    if name == INTERPRETER:
        return TorchDevice(name)
    if name.partition(":")[0] == "opencl" and (opened := _open_opencl(name, settings)) is not None:
        return opened
    findings = search_devices(known_probes())
    if not is_here(name, findings):
        raise DeviceMissing(_explain_absence(name, findings))
    if not any(_runs_torch(finding.chip, name) for finding in findings):
        raise DeviceMissing(
            f"device {name!r} is here, but this version makes no programs for it; "
            "banyan devices shows which devices run programs"
        )
    return TorchDevice(name if ":" in name else f"{name}:0")


def _runs_torch(chip: ChipSpec, name: str) -> bool:
    return chip.target == "triton" and name.partition(":")[0] == chip.name


def is_here(name: str, findings: Sequence[Finding]) -> bool:
    """Was a chip of this name found, or one of this kind?"""
    return any(
        isinstance(finding.answer, Yes) and name in {device.name, finding.chip.name}
        for finding in findings
        for device in finding.devices
    )


def _open_cpu(settings: Settings, num_threads: int | None) -> CpuDevice:
    def open_pool(threads: int) -> ThreadPool:
        compiler = find_compiler(settings.compiler_command)
        if isinstance(compiler, Missing):
            raise CompilerMissing(compiler.reason)
        return open_thread_pool(
            threads, cache_directory=settings.cache_directory, compiler=compiler
        )

    return CpuDevice(num_threads or CpuProbe().inventory()[0].cores, open_pool)


def _open_opencl(name: str, settings: Settings) -> OpenClDevice | None:
    """The device "opencl:N", or the first for "opencl"; None when there is no such device."""
    number = name.partition(":")[2] or "0"
    try:
        found = find_chips()
    except EnvironmentProblem:
        return None
    if not number.isdigit() or int(number) >= len(found):
        return None
    return OpenClDevice(f"opencl:{int(number)}", found[int(number)], settings.cache_directory)


def _explain_absence(name: str, findings: Sequence[Finding]) -> str:
    """Say why `name` cannot be had and what can."""
    here = ", ".join(device.name for finding in findings for device in finding.devices)
    for finding in findings:
        if finding.chip.name != name.partition(":")[0]:
            continue
        if isinstance(finding.answer, No):
            return f"device {name!r} cannot be used: {finding.answer.reason}; here: {here}"
        return f"device {name!r} is not among the devices of this machine: {here}"
    known = ", ".join(finding.chip.name for finding in findings)
    return f"device {name!r} is not known; known: {known}, triton, null; here: {here}"
