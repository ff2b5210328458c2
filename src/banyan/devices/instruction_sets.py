"""Which vector instruction sets generated C++ may use on this CPU, best first.

An `InstructionSet` names a family of micro-kernels and the compiler flags under which they build.
A program is compiled for exactly one of them; every CPU can run `portable`.
"""

import ctypes
import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_SYS_ARCH_PRCTL = 158
_ARCH_REQUEST_PERMISSION = 0x1023
_AMX_TILE_DATA = 18
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
_AVX2 = frozenset({"avx2", "fma", "f16c", "bmi1", "bmi2"})


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """One level of vector instructions.

    Attributes:
        name: amx_bf16, avx512_bf16, avx512, avx2, neon or portable.
        cpu_flags: flags of /proc/cpuinfo that must all be present.
        compiler_flags: what to compile with.
        needs_tile_permission: whether the operating system must grant AMX tiles first.
        architecture: the machine it belongs to; empty for every machine.
    """

    name: str
    cpu_flags: frozenset[str]
    compiler_flags: tuple[str, ...]
    needs_tile_permission: bool = False
    architecture: str = "x86_64"


# sapphirerapids lets the compiler emit everything that CPU has, so all of it is asked for.
INSTRUCTION_SETS = (
    InstructionSet(
        name="amx_bf16",
        cpu_flags=_AVX512
        | _AVX2
        | {"amx_tile", "amx_bf16", "amx_int8", "avx512_bf16", "avx512_fp16", "avx512_vnni"},
        compiler_flags=("-march=sapphirerapids", "-mprefer-vector-width=512"),
        needs_tile_permission=True,
    ),
    InstructionSet(
        name="avx512_bf16",
        cpu_flags=_AVX512 | _AVX2 | {"avx512_bf16", "avx512_vnni"},
        compiler_flags=("-march=cooperlake", "-mprefer-vector-width=512"),
    ),
    InstructionSet(
        name="avx512",
        cpu_flags=_AVX512 | _AVX2,
        compiler_flags=("-march=skylake-avx512", "-mprefer-vector-width=512"),
    ),
    InstructionSet(name="avx2", cpu_flags=_AVX2, compiler_flags=("-march=haswell",)),
    InstructionSet(
        name="neon",
        cpu_flags=frozenset({"asimd", "asimddp"}),
        compiler_flags=("-march=armv8.2-a+dotprod",),
        architecture="aarch64",
    ),
    InstructionSet(name="portable", cpu_flags=frozenset(), compiler_flags=(), architecture=""),
)


def available_instruction_sets(
    cpu_flags: Collection[str], *, tiles_permitted: bool
) -> tuple[InstructionSet, ...]:
    """Instruction sets a CPU with these flags can run, best first; never empty."""
    present = frozenset(cpu_flags)
    return tuple(
        level
        for level in INSTRUCTION_SETS
        if level.cpu_flags <= present and (tiles_permitted or not level.needs_tile_permission)
    )


def detect_instruction_sets() -> tuple[InstructionSet, ...]:
    """Instruction sets of this machine, best first.

    Asks the operating system for AMX tiles where the CPU has them. The permission belongs to the
    process, so every process that runs programs calls this once before it loads the first one.
    """
    flags = read_cpu_flags()
    permitted = "amx_tile" in flags and request_tile_permission()
    return available_instruction_sets(flags, tiles_permitted=permitted)


def read_cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Flags of the first CPU (Features on ARM); empty off Linux."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def request_tile_permission() -> bool:
    """Ask Linux to let this process use AMX tile registers; False where it cannot."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    libc = ctypes.CDLL(None)
    answer: int = libc.syscall(_SYS_ARCH_PRCTL, _ARCH_REQUEST_PERMISSION, _AMX_TILE_DATA)
    return answer == 0
