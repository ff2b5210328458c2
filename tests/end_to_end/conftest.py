from collections.abc import Iterator

import pytest

from tests.end_to_end.servers import Server, running_server


@pytest.fixture(scope="session")
def fake_server() -> Iterator[Server]:
    """A server of the scripted model; tests share it, so they must leave it as it was."""
    with running_server("fake", ["--max-model-len", "20000"]) as server:
        yield server
