"""`banyan devices`: what is here, why the rest is not, and what it was measured to do."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from banyan.cli.terminal import loading_view, output, side
from banyan.devices.cards import match_card
from banyan.devices.chip import ChipSpec, DeviceFacts, No
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.discovery import Finding, choose_device, known_probes, search_devices
from banyan.devices.profile import DeviceProfile, fingerprint_of, load_profile, save_profile
from banyan.engine.workbench.measuring.device import measure_device
from banyan.engine.workbench.measuring.effort import QUICK, ProgramEffort
from banyan.foundation.settings import Settings

Grid: TypeAlias = dict[tuple[str, tuple[int, ...]], str]
"""A format and sizes -> what stands in the cell of both."""


@dataclass(frozen=True, slots=True)
class Measuring:
    """Attributes:
    device: what is measured: "cpu", "opencl:0", ...
    quick: fewer sizes, less often.
    """

    device: str = "cpu"
    quick: bool = False


def run_devices(*, measure: Measuring | None, as_json: bool, settings: Settings) -> None:
    """List the devices; measure one first when asked to, and keep the profile."""
    measured = None if measure is None else measure_and_keep(measure, settings)
    findings = search_devices(known_probes())
    shown = measured or read_cpu_profile(settings)
    console = output()
    if as_json:
        console.print(json.dumps(as_values(findings, shown), indent=2), markup=False)
        return
    print_findings(console, findings)
    print_profile(console, shown)


def measure_and_keep(measure: Measuring, settings: Settings) -> DeviceProfile:
    """Measure a device and keep the profile in the cache.

    Raises:
        InputError, EnvironmentProblem: as `measure_device`.
        StorageFull: the profile cannot be kept.
    """
    with loading_view(side()) as view:
        profile = measure_device(
            measure.device,
            settings=settings,
            measured_on=datetime.now(UTC).date().isoformat(),
            effort=QUICK if measure.quick else ProgramEffort(),
            progress=view.show,
        )
    save_profile(profile, settings.cache_directory)
    return profile


def read_cpu_profile(settings: Settings) -> DeviceProfile | None:
    """Return what this machine's CPU was measured to do, if it ever was."""
    facts = CpuProbe().inventory()[0]
    return load_profile(fingerprint_of(facts, num_threads=facts.cores), settings.cache_directory)


def as_values(findings: Sequence[Finding], profile: DeviceProfile | None) -> dict[str, Any]:
    """Return everything as plain values for JSON."""
    choice = choose_device(findings)
    return {
        "default": {"device": choice.name, "reason": choice.reason},
        "devices": [
            asdict(device) | _described(finding.chip, device)
            for finding in findings
            for device in finding.devices
        ],
        "absent": [
            {
                "device": finding.chip.name,
                "vendor": finding.chip.vendor,
                "present": finding.answer.is_present,
                "reason": finding.answer.reason,
            }
            for finding in findings
            if isinstance(finding.answer, No)
        ],
        "profile": None if profile is None else asdict(profile),
    }


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print one row per device, then why other kinds are missing, then the default."""
    columns = ("device", "model", "cores", "memory", "features", "can do")
    table = Table(*columns, box=None, header_style="bold")
    for finding in findings:
        for device in finding.devices:
            table.add_row(
                device.name,
                escape(device.model),
                str(device.cores),
                f"{device.memory_bytes / 2**30:.1f} GiB",
                " ".join(device.features),
                what_it_can_do(finding.chip, device),
            )
    console.print(table)
    print_absences(console, findings)
    choice = choose_device(findings)
    console.print(f"Default: [bold]{choice.name}[/bold], because {escape(choice.reason)}")


def print_absences(console: Console, findings: Sequence[Finding]) -> None:
    """Print why chips cannot be used; those that are not in the machine share a line."""
    missing = []
    for finding in findings:
        if not isinstance(finding.answer, No):
            continue
        if finding.chip.pci_vendor_ids and not finding.answer.is_present:
            missing.append(finding.chip.name)
            continue
        style = "yellow" if finding.answer.is_present else "dim"
        reason = escape(finding.answer.reason)
        console.print(f"[{style}]{finding.chip.name}: {reason}[/{style}]")
    if missing:
        console.print(f"[dim]Not in this machine's PCI list: {', '.join(missing)}[/dim]")


def what_it_can_do(chip: ChipSpec, device: DeviceFacts) -> str:
    """Say what a device that was found is good for."""
    if chip.target is not None:
        return f"runs {chip.target} programs ({chip.status})"
    card = match_card(device.model)
    plans = f"; card {card.name}" if card is not None else ""
    return f"runs nothing yet ({chip.status}){plans}"


def _described(chip: ChipSpec, device: DeviceFacts) -> dict[str, Any]:
    card = match_card(device.model)
    return {
        "chip": chip.name,
        "vendor": chip.vendor,
        "target": chip.target,
        "status": chip.status,
        "can_do": what_it_can_do(chip, device),
        "card": None if card is None else card.name,
    }


def print_profile(console: Console, profile: DeviceProfile | None) -> None:
    """Print the measured speeds, or how to get them."""
    if profile is None:
        console.print("[dim]Not measured yet; banyan devices --measure takes some minutes.[/dim]")
        return
    console.print(
        f"Measured {profile.device} on {profile.measured_on} with {profile.num_threads} threads: "
        f"reads {profile.read_bytes_per_second / 1e9:.1f} GB/s "
        f"(one thread {profile.read_bytes_per_second_one_thread / 1e9:.1f})"
    )
    single = dict(profile.operations_per_second_one_thread)
    for dtype, rate in profile.operations_per_second:
        alone = f" (one thread {single[dtype] / 1e9:.0f})" if dtype in single else ""
        console.print(f"  {dtype}: {rate / 1e9:.0f} GFLOP/s{alone}")
    if profile.has_programs:
        print_rates(console, profile)
    else:
        console.print(
            "[dim]Ceilings only; banyan devices --measure adds what programs reach.[/dim]"
        )


def print_rates(console: Console, profile: DeviceProfile) -> None:
    """Print what compiled programs reached: linear layers by rows, then attention."""
    console.print(
        f"  one launch {profile.launch_seconds * 1e6:.1f} us, one more kernel "
        f"{profile.kernel_seconds * 1e6:.1f} us; copies in "
        f"{profile.copy_bytes_per_second / 1e9:.1f} GB/s, out "
        f"{profile.copy_back_bytes_per_second / 1e9:.1f}"
    )
    linear: Grid = {}
    for rate in profile.linear_rates:
        linear[rate.weights, (rate.rows,)] = f"{rate.operations_per_second / 1e9:.0f}"
    _print_grid(console, "linear layers, GFLOP/s", "{} row(s)", linear)
    decode: Grid = {}
    for read in profile.decode_rates:
        decode[read.cache, (read.sequences, read.context)] = f"{read.bytes_per_second / 1e9:.1f}"
    _print_grid(console, "cache read, GB/s", "{} x {}", decode)
    prefill: Grid = {}
    for prompt in profile.prefill_rates:
        size = (prompt.tokens, prompt.context)
        prefill[prompt.cache, size] = f"{prompt.operations_per_second / 1e9:.0f}"
    _print_grid(console, "prompts, GFLOP/s", "{} of {}", prefill)


def _print_grid(console: Console, title: str, head: str, cells: Grid) -> None:
    """A row for each format in its order, a column for each size by size; "-" where none is."""
    sizes = sorted({size for _, size in cells})
    table = Table(title, *(head.format(*size) for size in sizes), box=None)
    for form in dict.fromkeys(form for form, _ in cells):
        table.add_row(form, *(cells.get((form, size), "-") for size in sizes))
    console.print(table)
