"""`banyan doctor`: what this machine has, what it lacks, and how to get that.

Owns the list of checks. Each check is a function that returns a `Check` and changes nothing.
"""

import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from banyan.cli.listening import bind
from banyan.cli.terminal import output
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.instruction_sets import detect_instruction_sets, read_cpu_flags
from banyan.devices.native import Missing, find_compiler
from banyan.foundation.errors import EnvironmentProblem
from banyan.foundation.settings import Settings

_OLDEST_PYTHON = (3, 11)
_NEEDED_MEMORY_GIB, _NEEDED_DISK_GIB = 2, 2


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor.

    Attributes:
        name: what was looked at.
        is_present: whether it is there.
        found: what was found, or what is missing.
        remedy: how to get it, when it is missing.
        is_required: false for what only some uses need.
    """

    name: str
    is_present: bool
    found: str
    remedy: str = ""
    is_required: bool = True


def run_doctor(settings: Settings, *, port: int) -> bool:
    """Print every check; true when nothing required is missing."""
    checks = all_checks(settings, port=port)
    console = output()
    for check in checks:
        console.print(_line(check))
    num_missing = sum(check.is_required and not check.is_present for check in checks)
    if num_missing:
        console.print(f"\n{num_missing} of {len(checks)} checks need attention.")
    else:
        console.print("\nThis machine has what Banyan needs.")
    return num_missing == 0


def all_checks(settings: Settings, *, port: int) -> tuple[Check, ...]:
    """Run every check, in the order a new machine would be set up."""
    return (
        check_python(sys.version_info[:3]),
        check_cpp_compiler(settings),
        check_program("make", "apt-get install make"),
        check_processor(),
        check_tiles(read_cpu_flags()),
        check_memory(CpuProbe().inventory()[0].memory_bytes),
        check_disk(settings.cache_directory),
        check_package("torch", "pip install torch"),
        check_package("transformers", "pip install transformers", is_required=False),
        check_package("openai", "pip install openai", is_required=False),
        check_port(port),
    )


def check_python(version: Sequence[int]) -> Check:
    """Python must be 3.11 or newer."""
    found = ".".join(map(str, version))
    remedy = "install Python 3.11 or newer"
    return Check("Python", tuple(version[:2]) >= _OLDEST_PYTHON, found, remedy)


def check_cpp_compiler(settings: Settings) -> Check:
    """Programs are compiled by a C++ compiler; without one models run very slowly."""
    compiler = find_compiler(settings.compiler_command)
    if isinstance(compiler, Missing):
        return Check("C++ compiler", False, "none", compiler.reason)
    return Check("C++ compiler", True, compiler.version)


def check_program(name: str, remedy: str) -> Check:
    """Look for a program on the path."""
    path = shutil.which(name)
    return Check(name, path is not None, path or "not found", remedy)


def check_processor() -> Check:
    """Say how many cores there are and which instructions the compiler will use."""
    facts = CpuProbe().inventory()[0]
    best = detect_instruction_sets()[0].name
    return Check("processor", True, f"{facts.model}, {facts.cores} cores, {best}")


def check_tiles(cpu_flags: frozenset[str]) -> Check:
    """Matrix tiles (AMX) need the operating system's permission besides the chip."""
    if "amx_tile" not in cpu_flags:
        return Check("matrix tiles (AMX)", True, "this processor has none; not needed")
    permitted = any(level.needs_tile_permission for level in detect_instruction_sets())
    found = "permitted" if permitted else "the processor has them, the system forbids them"
    remedy = "use Linux 5.16 or newer, and a container runtime that passes arch_prctl"
    return Check("matrix tiles (AMX)", permitted, found, remedy, is_required=False)


def check_memory(memory_bytes: int) -> Check:
    """A small model wants about two gibibytes."""
    gibibytes = memory_bytes / 2**30
    remedy = f"at least {_NEEDED_MEMORY_GIB} GiB; raise the container's limit"
    return Check("memory", gibibytes >= _NEEDED_MEMORY_GIB, f"{gibibytes:.1f} GiB", remedy)


def check_disk(cache_directory: Path) -> Check:
    """Compiled programs are kept on disk."""
    existing = next(path for path in (cache_directory, *cache_directory.parents) if path.exists())
    gibibytes = shutil.disk_usage(existing).free / 2**30
    return Check(
        "cache",
        gibibytes >= _NEEDED_DISK_GIB,
        f"{gibibytes:.1f} GiB free for {cache_directory}",
        f"at least {_NEEDED_DISK_GIB} GiB; free space or set BANYAN_CACHE to another folder",
    )


def check_package(name: str, remedy: str, *, is_required: bool = True) -> Check:
    """Look for a Python package without importing it."""
    is_present = importlib.util.find_spec(name) is not None
    found = importlib.metadata.version(name) if is_present else "not installed"
    return Check(name, is_present, found, remedy, is_required)


def check_port(port: int) -> Check:
    """See whether a server could listen."""
    try:
        bind("127.0.0.1", port).close()
    except EnvironmentProblem:
        remedy = "stop what listens there, or serve with another --port"
        return Check("port", False, f"{port} is taken", remedy, is_required=False)
    return Check("port", True, f"{port} is free")


def _line(check: Check) -> str:
    if check.is_present:
        return f"[green]ok     [/green] {check.name}: {escape(check.found)}"
    mark = "[red]missing[/red]" if check.is_required else "[yellow]missing[/yellow]"
    kind = "" if check.is_required else " (optional)"
    return f"{mark} {check.name}{kind}: {escape(check.found)}; {escape(check.remedy)}"
