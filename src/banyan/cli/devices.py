"""`banyan devices`: what is here, why the rest is not, and what it was measured to do."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from banyan.cli.terminal import loading_view, output, side
from banyan.devices.chip import No
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.discovery import Finding, choose_device, known_probes, search_devices
from banyan.devices.measure import measure_cpu
from banyan.devices.profile import DeviceProfile, fingerprint_of, load_profile, save_profile
from banyan.foundation.settings import Settings


def run_devices(*, measure: bool, as_json: bool, settings: Settings) -> None:
    """List the devices; measure the CPU first when asked to, and keep the profile."""
    if measure:
        with loading_view(side()) as view:
            profile = measure_cpu(
                settings=settings,
                measured_on=datetime.now(UTC).date().isoformat(),
                progress=view.show,
            )
        save_profile(profile, settings.cache_directory)
    findings = search_devices(known_probes())
    profile_here = read_cpu_profile(settings)
    console = output()
    if as_json:
        console.print(json.dumps(as_values(findings, profile_here), indent=2), markup=False)
        return
    print_findings(console, findings)
    print_profile(console, profile_here)


def read_cpu_profile(settings: Settings) -> DeviceProfile | None:
    """Return what this machine's CPU was measured to do, if it ever was."""
    facts = CpuProbe().inventory()[0]
    return load_profile(fingerprint_of(facts, num_threads=facts.cores), settings.cache_directory)


def as_values(findings: Sequence[Finding], profile: DeviceProfile | None) -> dict[str, Any]:
    """Return everything as plain values for JSON."""
    choice = choose_device(findings)
    return {
        "default": {"device": choice.name, "reason": choice.reason},
        "devices": [asdict(device) for finding in findings for device in finding.devices],
        "absent": [
            {"device": finding.chip.name, "reason": finding.answer.reason}
            for finding in findings
            if isinstance(finding.answer, No)
        ],
        "profile": None if profile is None else asdict(profile),
    }


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print one row per device, then why other kinds are missing, then the default."""
    table = Table("device", "model", "cores", "memory", "features", box=None, header_style="bold")
    for finding in findings:
        for device in finding.devices:
            table.add_row(
                device.name,
                escape(device.model),
                str(device.cores),
                f"{device.memory_bytes / 2**30:.1f} GiB",
                " ".join(device.features),
            )
    console.print(table)
    for finding in findings:
        if isinstance(finding.answer, No):
            console.print(f"[dim]{finding.chip.name}: {escape(finding.answer.reason)}[/dim]")
    choice = choose_device(findings)
    console.print(f"Default: [bold]{choice.name}[/bold], because {escape(choice.reason)}")


def print_profile(console: Console, profile: DeviceProfile | None) -> None:
    """Print the measured speeds, or how to get them."""
    if profile is None:
        console.print("[dim]Not measured yet; banyan devices --measure takes some seconds.[/dim]")
        return
    console.print(
        f"Measured on {profile.measured_on} with {profile.num_threads} threads: reads "
        f"{profile.read_bytes_per_second / 1e9:.1f} GB/s "
        f"(one thread {profile.read_bytes_per_second_one_thread / 1e9:.1f})"
    )
    single = dict(profile.operations_per_second_one_thread)
    for dtype, rate in profile.operations_per_second:
        alone = single.get(dtype, 0.0) / 1e9
        console.print(f"  {dtype}: {rate / 1e9:.0f} GFLOP/s (one thread {alone:.0f})")
