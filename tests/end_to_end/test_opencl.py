"""A server whose model runs on an OpenCL device."""

from collections.abc import Iterator

import pytest

from banyan.devices.opencl import OpenClDevice
from tests.conftest import Checkpoint
from tests.end_to_end.servers import Server, running_server
from tests.pocl import environment_of_children, open_pocl

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def device() -> Iterator[OpenClDevice]:
    yield from open_pocl()


def test_a_served_request_is_answered_as_on_the_cpu(
    device: OpenClDevice,
    real_server: Server,
    checkpoint: Checkpoint,
    program_cache: dict[str, str],
) -> None:
    options = ["--served-model-name", "tiny", "--device", device.name, "--max-num-seqs", "32"]
    environment = program_cache | environment_of_children()
    with running_server(str(checkpoint("llama")), options, environment=environment) as server:
        texts = [
            s.sdk().completions.create(model="tiny", prompt="hello", max_tokens=8, temperature=0)
            for s in (server, real_server)
        ]
    assert texts[0].choices[0].text == texts[1].choices[0].text
    assert texts[0].usage is not None
    assert texts[0].usage.completion_tokens == 8
