import socket
from dataclasses import replace
from pathlib import Path

import pytest

from banyan.cli import doctor
from banyan.cli.doctor import (
    Check,
    check_cpp_compiler,
    check_disk,
    check_memory,
    check_package,
    check_port,
    check_program,
    check_python,
    check_tiles,
    run_doctor,
)
from banyan.foundation.settings import Settings


def settings(tmp_path: Path) -> Settings:
    return Settings(cache_directory=tmp_path / "not" / "yet")


@pytest.mark.parametrize(("version", "is_present"), [((3, 10, 9), False), ((3, 12, 0), True)])
def test_python_must_be_new_enough(version: tuple[int, int, int], is_present: bool) -> None:
    assert check_python(version).is_present is is_present


def test_what_is_missing_comes_with_how_to_get_it(tmp_path: Path) -> None:
    compiler = check_cpp_compiler(replace(settings(tmp_path), compiler_command="no-such-compiler"))
    assert (compiler.is_present, "apt-get install g++" in compiler.remedy) == (False, True)
    assert not check_program("no-such-program", "install it").is_present
    assert check_package("no_such_package", "pip install it").found == "not installed"
    assert not check_memory(2**30).is_present
    assert check_disk(settings(tmp_path).cache_directory).found.endswith("not/yet")


def test_a_processor_without_tiles_needs_no_permission() -> None:
    assert check_tiles(frozenset()).is_present


def test_tiles_that_the_system_forbids_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "detect_instruction_sets", tuple)
    check = check_tiles(frozenset({"amx_tile"}))
    assert (check.is_present, check.is_required) == (False, False)
    assert "the system forbids them" in check.found


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert check_port(port).found == f"{port} is taken"
    assert check_port(0).is_present


def test_every_check_has_a_line_and_a_missing_part_makes_the_answer_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_doctor(settings(tmp_path), port=0)
    assert "This machine has what Banyan needs." in capsys.readouterr().out
    missing = (Check("x", False, "none", "get x"), Check("y", False, "none", "get y", False))
    monkeypatch.setattr(doctor, "all_checks", lambda *_, **__: missing)
    assert not run_doctor(settings(tmp_path), port=0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["missing x: none; get x", "missing y (optional): none; get y"]
    assert lines[-1] == "1 of 2 checks need attention."
