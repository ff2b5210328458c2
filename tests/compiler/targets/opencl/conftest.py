"""The first OpenCL device in two shapes, shared by the tests of this folder."""

from collections.abc import Iterator

import pytest

from banyan.devices.opencl import OpenClDevice
from tests.pocl import open_pocl


@pytest.fixture(scope="session")
def device() -> Iterator[OpenClDevice]:
    """As a GPU: several work-items share each group's loops and wait for each other."""
    yield from open_pocl(lanes=2)


@pytest.fixture(scope="session")
def single() -> Iterator[OpenClDevice]:
    """As it is opened on a CPU: one work-item for each group."""
    yield from open_pocl()
