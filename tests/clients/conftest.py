"""Servers that clients of other makers are driven against, and where those clients are."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import encoder_server, program_cache  # noqa: F401  (fixtures)
from tests.end_to_end.servers import Server, running_server

CLIENTS = Path(sys.prefix) / "clients"
SCRIPTS = Path(__file__).parent / "scripts"

# None of these libraries may reach out while it is tested: prices, tokenizers, telemetry.
_OFFLINE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "DO_NOT_TRACK": "1",
    "ANONYMIZED_TELEMETRY": "false",
    "HTTP_PROXY": "",
    "HTTPS_PROXY": "",
    "NO_PROXY": "*",
}

Drive = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def client_server() -> Iterator[Server]:
    """A server of the scripted model that expects tool calls in the style of Hermes."""
    options = ["--max-model-len", "4000", "--tool-call-parser", "hermes"]
    with running_server("fake", options) as one:
        yield one


@pytest.fixture(scope="session")
def drive_python() -> Drive:
    """Run a script with a client written in Python and read what it prints."""
    python = CLIENTS / "python/bin/python"
    if not python.exists():
        pytest.skip(f"the clients are not in {CLIENTS}; install them with tools/install_clients.sh")
    return lambda script, *arguments: _run([str(python), str(SCRIPTS / script), *arguments])


@pytest.fixture(scope="session")
def drive_node() -> Drive:
    """Run a script with the client written in JavaScript and read what it prints."""
    node = shutil.which("node")
    modules = CLIENTS / "node/node_modules"
    if node is None:
        pytest.skip("there is no node on this machine")
    if not modules.exists():
        pytest.skip(f"openai is not in {modules}; install it with tools/install_clients.sh")
    entry = modules / "openai/index.js"
    return lambda script, *arguments: _run([node, str(SCRIPTS / script), str(entry), *arguments])


def _run(command: list[str]) -> dict[str, Any]:
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, **_OFFLINE},
    )
    assert result.returncode == 0, result.stderr[-4000:]
    printed: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return printed
