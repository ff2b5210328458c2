import asyncio
import socket
from pathlib import Path

import pytest

from banyan.cli.worker import open_lending
from banyan.engine.stages.addresses import PlaceAddress
from banyan.engine.starting.reaching import reach_by, try_device


def reached(address: PlaceAddress, secret: Path | None) -> str | None:
    async def ask() -> str | None:
        return await reach_by({"far": address}, secret)("far", 1.0)

    return asyncio.run(ask())


def test_a_worker_that_listens_is_reached_and_one_that_is_gone_or_mute_is_not(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret"
    lending = open_lending("127.0.0.1:0", secret, "cpu")
    there = PlaceAddress("tcp", host="127.0.0.1", port=lending.listener.port)
    try:
        assert reached(there, secret) is None
        assert "plan_secret is not given" in str(reached(there, None))
    finally:
        lending.listener.close()
    assert "the worker of far cannot be used: No worker answers" in str(reached(there, secret))
    # A cut network: somebody took the connection and nothing comes back.
    with socket.create_server(("127.0.0.1", 0)) as mute:
        silent = PlaceAddress("tcp", host="127.0.0.1", port=mute.getsockname()[1])
        assert "sent 0 of 8 bytes" in str(reached(silent, secret))


def test_a_device_of_this_host_is_opened_by_another_process() -> None:
    assert reached(PlaceAddress("process", device="interpreter"), None) is None
    reason = reached(PlaceAddress("process", device="opencl:99"), None)
    assert reason is not None
    assert reason.startswith("far cannot be opened: ")


def test_the_reason_why_a_device_does_not_open_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert try_device("nothing") == 1
    assert "'nothing'" in capsys.readouterr().out
