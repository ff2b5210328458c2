from collections.abc import Iterator

import pytest

from tests.conftest import PROGRAM_CACHE, Checkpoint
from tests.end_to_end.servers import Server, running_server


@pytest.fixture(scope="session")
def fake_server() -> Iterator[Server]:
    """A server of the scripted model; tests share it, so they must leave it as it was."""
    with running_server("fake", ["--max-model-len", "20000"]) as server:
        yield server


@pytest.fixture(scope="session")
def program_cache() -> dict[str, str]:
    """The environment of servers that share compiled programs with all tests."""
    return {"BANYAN_CACHE": str(PROGRAM_CACHE)}


@pytest.fixture(scope="session")
def real_server(checkpoint: Checkpoint, program_cache: dict[str, str]) -> Iterator[Server]:
    """A server of a tiny Llama in float32, compiled by our compiler."""
    options = ["--served-model-name", "tiny", "--threads", "2", "--max-num-seqs", "32"]
    with running_server(str(checkpoint("llama")), options, environment=program_cache) as server:
        yield server


@pytest.fixture(scope="session")
def encoder_server(checkpoint: Checkpoint, program_cache: dict[str, str]) -> Iterator[Server]:
    """A server of a tiny BERT."""
    options = ["--served-model-name", "tiny", "--threads", "2"]
    with running_server(str(checkpoint("bert")), options, environment=program_cache) as server:
        yield server
