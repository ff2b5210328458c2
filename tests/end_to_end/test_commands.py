"""The commands as a person runs them, with the scripted model."""

import re
import subprocess
import sys

import pytest

from banyan.cli.demo import run_demo
from banyan.cli.server_process import started_server
from banyan.client import Client
from banyan.foundation.errors import EngineStopped, EnvironmentProblem
from tests.end_to_end.servers import Server, wait_until

pytestmark = pytest.mark.end_to_end


def test_the_demo_asks_three_questions_and_stops(capsys: pytest.CaptureFixture[str]) -> None:
    run_demo("fake", threads=1)
    said = capsys.readouterr().out
    assert said.count("first token after") == 3
    assert "nothing was compiled" in said
    assert "Default: cpu" in said
    assert "The server is stopped" in said


def test_the_demo_without_the_sdk_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'banyan-compute\[demo\]'"):
        run_demo("fake", threads=None)


def test_a_chat_in_a_terminal_is_answered(fake_server: Server) -> None:
    command = [sys.executable, "-m", "banyan.cli.main", "chat", "--url", fake_server.url]
    ended = subprocess.run(
        [*command, "--max-tokens", "4", "--temperature", "0"],
        input="Hi\n/quit\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Talk with fake" in ended.stdout
    assert re.search(r"^> [a-z]{4}$", ended.stdout, re.MULTILINE)


def test_a_server_that_cannot_start_gives_its_own_sentence() -> None:
    with (
        pytest.raises(EngineStopped, match=r"did not start: .*/nowhere"),
        started_server(["/nowhere"]),
    ):
        raise AssertionError("it must not start")


def test_a_model_that_fails_while_it_loads_gives_its_own_sentence() -> None:
    with (
        pytest.raises(EngineStopped, match=r"did not start: .*dtype"),
        started_server(["fake", "--dtype", "int3"]),
    ):
        raise AssertionError("it must not start")


def test_a_server_stops_when_the_program_that_started_it_is_killed() -> None:
    code = (
        "import os\n"
        "from banyan.cli.server_process import started_server\n"
        "with started_server(['fake']) as url:\n"
        "    print(url, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert killed.returncode == -9
    client = Client(killed.stdout.strip())

    def is_gone() -> bool:
        try:
            client.health()
        except EnvironmentProblem:
            return True
        return False

    wait_until("the server stops", is_gone)
