import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from banyan.cli.listening import address_of, bind
from banyan.cli.serve import ServeOptions, run_server
from banyan.cli.served_text import open_text
from banyan.client import Client
from banyan.engine.options import EngineOptions
from banyan.foundation.errors import EnvironmentProblem, InputError
from banyan.foundation.settings import Settings
from banyan.gateway.app import create_app
from tests.conftest import Checkpoint


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_host_that_is_not_ours_is_one_sentence() -> None:
    with pytest.raises(EnvironmentProblem, match=r"cannot listen on 203\.0\.113\.1:0 \(Cannot"):
        bind("203.0.113.1", 0)
    with pytest.raises(EnvironmentProblem, match="cannot listen on no such host"):
        bind("no such host", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_address_can_be_used_by_a_client(host: str) -> None:
    with bind(host, 0) as listener:
        assert address_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_the_fake_model_reads_bytes() -> None:
    served = open_text("fake", offline=True)
    assert served.text.encode("ab") == [97, 98]
    messages = [{"role": "user", "content": "a"}]
    assert served.text.decode(served.text.encode_chat(messages)) == "user: a\nassistant:"


@pytest.mark.end_to_end
def test_a_server_in_this_process_serves_until_a_signal_and_leaves_signals_as_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    said: list[str] = []

    def use_and_stop() -> None:
        client = Client(f"http://127.0.0.1:{port}")
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                try:
                    if client.health().status == "ready":
                        break
                except EnvironmentProblem:
                    pass
                time.sleep(0.05)
            said.append(client.complete("a", model="mine").text)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    options = ServeOptions(
        model="fake", engine=EngineOptions(), port=port, served_model_name="mine"
    )
    # Until the server has its own handlers, the signal must not end the tests.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        thread = threading.Thread(target=use_and_stop)
        thread.start()
        run_server(options, Settings(cache_directory=tmp_path))
        thread.join()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(said) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"Listening on http://127.0.0.1:{port}",
        f"Serving mine at http://127.0.0.1:{port}",
    ]


@pytest.mark.end_to_end
def test_a_signal_before_the_server_listens_to_signals_still_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def create_app_and_signal(*arguments: Any, **options: Any) -> FastAPI:
        os.kill(os.getpid(), signal.SIGTERM)
        return create_app(*arguments, **options)

    monkeypatch.setattr("banyan.cli.api_server.create_app", create_app_and_signal)
    options = ServeOptions(model="fake", engine=EngineOptions(), port=0)
    run_server(options, Settings(cache_directory=tmp_path))
    assert "Serving" not in capsys.readouterr().out


@pytest.mark.end_to_end
def test_an_input_whose_end_cannot_be_seen_is_refused() -> None:
    command = [sys.executable, "-P", "-m", "banyan.cli.main", "serve", "fake", "--port", "0"]
    ended = subprocess.run(
        [*command, "--until-input-ends"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "needs a pipe or a terminal" in ended.stderr


@pytest.mark.end_to_end
def test_an_engine_that_cannot_start_stops_the_server_with_its_sentence(tmp_path: Path) -> None:
    engine = EngineOptions(max_model_len=1000, num_blocks=1)
    options = ServeOptions(model="fake", engine=engine, port=0)
    with pytest.raises(InputError, match="num_blocks=1 cannot hold"):
        run_server(options, Settings(cache_directory=tmp_path))


API_PROCESS = """
import sys
from banyan.cli import api_server, serve
from banyan.cli.served_text import open_text
served = open_text(sys.argv[1], offline=True)
assert served.text.encode("a"), served
print([name for name in ("numpy", "torch", "ml_dtypes") if name in sys.modules])
"""


def test_the_api_process_imports_neither_numpy_nor_torch(checkpoint: Checkpoint) -> None:
    done = subprocess.run(
        [sys.executable, "-c", API_PROCESS, str(checkpoint("llama"))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
