"""Building shared objects: cached by content, once among processes, clear when it fails."""

import ctypes
import errno
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from banyan.devices import native
from banyan.devices.native import (
    Compiler,
    Missing,
    SharedObject,
    build_shared_object,
    find_compiler,
    is_whole,
)
from banyan.foundation.errors import CompilationFailed, CompilerMissing, StorageFull

ANSWER = 'extern "C" int answer() { return NUMBER; }'
FLAGS = ("-O1", "-DNUMBER=42")


@pytest.fixture
def counted(tmp_path: Path) -> tuple[Compiler, Path]:
    """A compiler that writes one line to a file each time it compiles."""
    real = find_compiler()
    if isinstance(real, Missing):
        pytest.skip("no C++ compiler")
    log = tmp_path / "compilations"
    script = tmp_path / "counting-compiler"
    script.write_text(f'#!/bin/sh\necho one >> "{log}"\nsleep 0.2\nexec "{real.path}" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return Compiler(script, "counting 1.0"), log


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where builds go that cannot be kept."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def build(cache: Path, compiler: Compiler | None = None, **changes: object) -> SharedObject:
    arguments: dict[str, object] = {"flags": FLAGS, "name": "answer", **changes}
    source = str(arguments.pop("source", ANSWER))
    return build_shared_object(
        source, cache_directory=cache, compiler=compiler, **arguments  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_built_object_can_be_loaded_and_called(tmp_path: Path) -> None:
    built = build(tmp_path)
    assert not built.cached
    assert built.seconds > 0
    assert ctypes.CDLL(str(built.path)).answer() == 42


def test_the_second_build_of_the_same_text_is_found(
    tmp_path: Path, counted: tuple[Compiler, Path]
) -> None:
    compiler, log = counted
    first, second = build(tmp_path, compiler), build(tmp_path, compiler)
    assert (first.cached, second.cached) == (False, True)
    assert first.path == second.path
    assert log.read_text().splitlines() == ["one"]


def test_text_flags_headers_and_compiler_are_all_part_of_the_key(
    tmp_path: Path, counted: tuple[Compiler, Path]
) -> None:
    compiler, _ = counted
    include = tmp_path / "include"
    include.mkdir()
    header = include / "number.h"
    header.write_text("// first")
    paths = [
        build(tmp_path, compiler).path,
        build(tmp_path, compiler, source=ANSWER + "\n").path,
        build(tmp_path, compiler, flags=("-O1", "-DNUMBER=43")).path,
        build(tmp_path, Compiler(compiler.path, "counting 2.0")).path,
        build(tmp_path, compiler, include_directories=(include,)).path,
    ]
    header.write_text("// second")
    paths.append(build(tmp_path, compiler, include_directories=(include,)).path)
    assert len(set(paths)) == 6


def _build_in_child(cache: Path, compiler: Compiler) -> None:
    build(cache, compiler)


def test_processes_that_want_the_same_object_compile_it_once(
    tmp_path: Path, counted: tuple[Compiler, Path]
) -> None:
    compiler, log = counted
    context = multiprocessing.get_context("spawn")
    children = [
        context.Process(target=_build_in_child, args=(tmp_path, compiler)) for _ in range(3)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert log.read_text().splitlines() == ["one"]
    assert build(tmp_path, compiler).cached


def test_refused_text_quotes_the_first_error(tmp_path: Path) -> None:
    with pytest.raises(CompilationFailed, match=r"error: .*undeclared.*|was not declared"):
        build(tmp_path, source="int f() { return nonsense; }\nint g() { return more; }")
    assert not list(tmp_path.rglob("*.so"))
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_missing_compiler_says_how_to_get_one() -> None:
    found = find_compiler("no-such-compiler")
    assert isinstance(found, Missing)
    assert "no-such-compiler" in found.reason
    assert "apt-get install g++" in found.reason


def test_a_program_that_does_not_answer_is_no_compiler(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\n")
    silent.chmod(0o755)
    assert isinstance(find_compiler(str(silent)), Missing)


def test_building_without_a_compiler_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "CANDIDATES", ("no-such-compiler",))
    with pytest.raises(CompilerMissing, match="no C\\+\\+ compiler was found"):
        build(tmp_path)


def test_a_cache_that_cannot_be_written_costs_only_the_cache(
    tmp_path: Path, temporary_folder: Path
) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    real = native._build_in

    def refuse_the_cache(
        directory: Path, stem: str, source: str, command: list[str]
    ) -> tuple[Path, bool]:
        if directory.is_relative_to(folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(directory, stem, source, command)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_build_in", refuse_the_cache)
        with pytest.warns(RuntimeWarning, match="No space left on device"):
            built = build(folder)
    assert built.path.is_relative_to(temporary_folder)
    assert ctypes.CDLL(str(built.path)).answer() == 42


def test_a_compiler_that_meets_a_full_disk_costs_only_the_cache(
    tmp_path: Path, counted: tuple[Compiler, Path], temporary_folder: Path
) -> None:
    real, log = counted
    script = tmp_path / "full-once"
    script.write_text(
        f'#!/bin/sh\nif [ -f "{log}" ]; then exec "{real.path}" "$@"; fi\n'
        f'echo one > "{log}"\necho "cannot write: No space left on device" >&2\nexit 1\n'
    )
    script.chmod(0o755)
    with pytest.warns(RuntimeWarning, match="next start compiles again"):
        built = build(tmp_path, Compiler(script, "full"))
    assert built.path.is_relative_to(temporary_folder)


def test_no_place_to_write_at_all_is_said_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(native, "_build_in", full)
    monkeypatch.setattr("tempfile.mkdtemp", full)
    with (
        pytest.warns(RuntimeWarning, match="cannot keep compiled programs"),
        pytest.raises(StorageFull, match="set BANYAN_CACHE to a folder on another disk"),
    ):
        build(tmp_path)


def test_other_failures_of_the_file_system_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> tuple[Path, bool]:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(native, "_build_in", broken)
    with pytest.raises(OSError, match="input/output error"):
        build(tmp_path)


@pytest.mark.parametrize("kept_bytes", [0, 40, 2000])
def test_an_object_that_was_cut_off_is_built_again(tmp_path: Path, kept_bytes: int) -> None:
    path = build(tmp_path).path
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:kept_bytes])
    again = build(tmp_path)
    assert not again.cached
    assert ctypes.CDLL(str(again.path)).answer() == 42


def test_a_file_of_another_kind_is_no_shared_object(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.so"
    damaged.write_bytes(b"x" * 500)
    assert not is_whole(damaged)
    assert not is_whole(tmp_path / "absent.so")
