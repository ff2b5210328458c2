"""Which instruction sets a CPU is found to have."""

import platform
import subprocess
from pathlib import Path

import pytest

from banyan.devices import instruction_sets
from banyan.devices.instruction_sets import (
    INSTRUCTION_SETS,
    available_instruction_sets,
    detect_instruction_sets,
    read_cpu_flags,
    request_tile_permission,
)
from banyan.devices.native import Compiler, find_compiler

AVX2 = {"avx2", "fma", "f16c", "bmi1", "bmi2"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
BF16 = AVX512 | {"avx512_bf16", "avx512_vnni"}
AMX = BF16 | {"amx_tile", "amx_bf16", "amx_int8", "avx512_fp16"}


@pytest.mark.parametrize(
    ("flags", "permitted", "names"),
    [
        (AMX, True, ["amx_bf16", "avx512_bf16", "avx512", "avx2", "portable"]),
        (AMX, False, ["avx512_bf16", "avx512", "avx2", "portable"]),
        (BF16, False, ["avx512_bf16", "avx512", "avx2", "portable"]),
        (AVX512, False, ["avx512", "avx2", "portable"]),
        (AVX2, False, ["avx2", "portable"]),
        (AVX2 - {"fma"}, False, ["portable"]),
        ({"fp", "asimd", "asimddp"}, False, ["neon", "portable"]),
        ({"fp", "asimd"}, False, ["portable"]),
        (set(), False, ["portable"]),
    ],
)
def test_a_level_needs_all_its_flags_and_tiles_need_permission(
    flags: set[str], permitted: bool, names: list[str]
) -> None:
    found = available_instruction_sets(flags, tiles_permitted=permitted)
    assert [level.name for level in found] == names


def test_flags_are_those_of_the_first_cpu(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t: sse\n")
    assert read_cpu_flags(cpuinfo) == {"fpu", "avx2"}


def test_arm_calls_its_flags_features(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd\n")
    assert read_cpu_flags(tmp_path / "cpuinfo") == {"fp", "asimd"}


def test_a_machine_without_flags_is_portable(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("BogoMIPS\t: 50\n")
    assert read_cpu_flags(tmp_path / "cpuinfo") == frozenset()
    assert read_cpu_flags(tmp_path / "absent") == frozenset()


def test_this_machine_can_at_least_run_portable_code() -> None:
    assert detect_instruction_sets()[-1].name == "portable"


def test_tiles_are_asked_for_only_where_the_cpu_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruction_sets, "read_cpu_flags", lambda: frozenset(AMX))
    monkeypatch.setattr(instruction_sets, "request_tile_permission", lambda: True)
    assert detect_instruction_sets()[0].name == "amx_bf16"
    monkeypatch.setattr(instruction_sets, "request_tile_permission", lambda: False)
    assert detect_instruction_sets()[0].name == "avx512_bf16"


def test_permission_is_granted_exactly_where_linux_has_tiles() -> None:
    if "amx_tile" in read_cpu_flags():
        pytest.skip("this machine has tiles; whether they are permitted is its own decision")
    assert request_tile_permission() is False


def test_other_systems_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert request_tile_permission() is False


@pytest.mark.parametrize("level", INSTRUCTION_SETS, ids=lambda level: level.name)
def test_the_compiler_knows_the_flags_of_every_level(
    level: instruction_sets.InstructionSet, tmp_path: Path
) -> None:
    compiler = find_compiler()
    if level.architecture == "aarch64":
        compiler = find_compiler("aarch64-linux-gnu-g++")
    if not isinstance(compiler, Compiler) or platform.machine() != "x86_64":
        pytest.skip(f"needs a C++ compiler for {level.architecture} on x86-64")
    source = tmp_path / "empty.cpp"
    source.write_text("int nothing;")
    command = [str(compiler.path), *level.compiler_flags, "-fsyntax-only", str(source)]
    assert subprocess.run(command, check=False).returncode == 0
