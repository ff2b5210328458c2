import subprocess
import sys

import pytest

from banyan.cli.main import main
from banyan.foundation.errors import InputError


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from banyan.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'fastapi', 'zmq', 'uvicorn', 'tokenizers'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert "loaded []" in said
    for command in ("serve", "chat", "demo", "compile", "swap", "devices", "doctor"):
        assert f" {command} " in said


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("banyan 0.")


def test_an_error_of_ours_is_one_sentence_and_exit_code_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("serve", "fake", "--dtype", "int3") == 1
    said = capsys.readouterr().err
    assert said == "error: dtype='int3' is not known; use one of auto, float32, bfloat16\n"


def test_ctrl_c_is_not_an_error_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("banyan.cli.doctor.run_doctor", interrupted)
    assert run("doctor") == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_wrong_option_is_told_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", "--prot", "1") == 2
    assert "--prot" in capsys.readouterr().err


def test_markup_in_an_error_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> bool:
        raise InputError("a [bold]file[/bold]")

    monkeypatch.setattr("banyan.cli.doctor.run_doctor", fail)
    run("doctor")
    assert "a [bold]file[/bold]" in capsys.readouterr().err
