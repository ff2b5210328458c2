"""Runs the kit on a device by name, and says which of three words it has earned.

- verified: every check passed on that silicon.
- emulated: every check passed, under an emulation, an interpreter, or a driver for the CPU.
- described: the device runs nothing, or a check failed.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass

from banyan.compiler.compile import target_of
from banyan.compiler.options import CompileOptions
from banyan.devices.device import Device
from banyan.devices.discovery import find_device, known_probes, search_devices
from banyan.devices.opencl import OpenClDevice
from banyan.devices.profile import DeviceProfile
from banyan.devices.simulated import SimulatedDevice
from banyan.devices.torch_device import INTERPRETER
from banyan.engine.workbench.conformance.checks import (
    AREAS,
    Area,
    Bench,
    Cases,
    Check,
    ConformanceReport,
    Status,
    first_line,
)
from banyan.engine.workbench.conformance.decoding import decoder_checks
from banyan.engine.workbench.conformance.graph_case import GraphCase, run_case
from banyan.engine.workbench.conformance.launches import determinism_checks, launch_checks
from banyan.engine.workbench.conformance.memory import limit_checks, memory_checks
from banyan.engine.workbench.conformance.models import model_cases
from banyan.engine.workbench.conformance.operators import operator_cases
from banyan.foundation.errors import DeviceMissing
from banyan.foundation.settings import Settings

SIMULATED = "simulated"
_SIMULATED_BYTES = 1 << 32
_EXAMPLE = DeviceProfile(
    fingerprint="example",
    model="a profile made up for the kit",
    measured_on="2026-01-01",
    num_threads=1,
    read_bytes_per_second=1e11,
    read_bytes_per_second_one_thread=1e11,
    copy_bytes_per_second=1e10,
    operations_per_second=(("float32", 1e12), ("bfloat16", 2e12)),
    operations_per_second_one_thread=(),
    launch_seconds=1e-6,
)

Tell = Callable[[Check], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """A device under test and what is known of it.

    Attributes:
        device: open.
        model: the maker's name of the chip.
        is_emulated: its programs run on something else than the chip they are for.
        runs_programs: False where launches are only counted.
    """

    device: Device
    model: str
    is_emulated: bool
    runs_programs: bool


def open_subject(name: str, settings: Settings) -> Subject:
    """Open a device by the name that `find_device` takes, or "simulated".

    Raises:
        DeviceMissing: there is none.
    """
    if name == SIMULATED:
        simulated = SimulatedDevice(SIMULATED, _EXAMPLE, memory_bytes=_SIMULATED_BYTES)
        return Subject(simulated, "profile and clock", is_emulated=True, runs_programs=False)
    device = find_device(name, settings=settings)
    if name == "null":
        return Subject(device, "counts, runs nothing", is_emulated=True, runs_programs=False)
    if device.name == INTERPRETER:
        return Subject(device, "Triton's interpreter", is_emulated=True, runs_programs=True)
    is_emulated = isinstance(device, OpenClDevice) and device.is_cpu
    return Subject(device, _model_of(device.name), is_emulated, runs_programs=True)


def _model_of(name: str) -> str:
    for finding in search_devices(known_probes()):
        for facts in finding.devices:
            if facts.name == name:
                return facts.model
    raise DeviceMissing(f"device {name!r} opens but no probe lists it; add a probe for it")


def check_device(
    name: str,
    *,
    settings: Settings,
    areas: Collection[Area] = AREAS,
    tell: Tell | None = None,
) -> ConformanceReport:
    """Run the kit on a device; minutes on an interpreter, about one on a CPU.

    `tell` is told every check as soon as it is done. Areas that are left out count as failed for
    the status: a word is earned by the whole kit.

    Raises:
        DeviceMissing: there is no such device.
        EnvironmentProblem: it cannot be opened.
    """
    subject = open_subject(name, settings)
    with closing(subject.device):
        options = CompileOptions(settings.cache_directory, settings.compiler_command)
        return check_subject(subject, options, areas=areas, tell=tell)


def check_subject(
    subject: Subject,
    options: CompileOptions,
    *,
    areas: Collection[Area] = AREAS,
    tell: Tell | None = None,
) -> ConformanceReport:
    """Run the kit on a device that is open; see `check_device`."""
    bench = Bench(subject.device, options, subject.runs_programs)
    checks: list[Check] = []
    for area in AREAS:
        if area not in areas or not (subject.runs_programs or area in _WITHOUT_PROGRAMS):
            continue
        for check in _guarded(area, bench):
            checks.append(check)
            if tell is not None:
                tell(check)
    return ConformanceReport(
        device=subject.device.name,
        model=subject.model,
        target=target_of(subject.device) if subject.runs_programs else "none",
        checks=tuple(checks),
        status=status_of(
            all_passed=bool(checks) and all(check.passed for check in checks),
            is_whole=set(AREAS) <= set(areas),
            runs_programs=subject.runs_programs,
            is_emulated=subject.is_emulated,
        ),
    )


def status_of(
    *, all_passed: bool, is_whole: bool, runs_programs: bool, is_emulated: bool
) -> Status:
    """The one word that a device has earned."""
    if not (all_passed and is_whole and runs_programs):
        return "described"
    return "emulated" if is_emulated else "verified"


def _guarded(area: Area, bench: Bench) -> Iterator[Check]:
    """The checks of an area; what breaks between them is one more that failed."""
    try:
        yield from _CHECKS[area](bench)
    # Whatever a driver throws is a finding of the kit, not the end of it.
    except Exception as error:
        said = f"ended early: {type(error).__name__}: {first_line(error)}"
        yield Check(area, "the whole area", False, said)


def _graphs(cases: Callable[[], Iterator[GraphCase]]) -> Cases:
    def run(bench: Bench) -> Iterator[Check]:
        for case in cases():
            yield from run_case(case, bench)

    return run


_CHECKS: dict[Area, Cases] = {
    "memory": memory_checks,
    "limits": limit_checks,
    "launches": launch_checks,
    "operators": _graphs(operator_cases),
    "models": _graphs(model_cases),
    "determinism": determinism_checks,
    "decoder": decoder_checks,
}
_WITHOUT_PROGRAMS = frozenset({"memory", "limits", "launches"})
"""What a device that runs nothing can be asked."""
