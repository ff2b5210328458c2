"""Compilation is slow, so the tests of this folder share the objects of all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from banyan.devices.native import Missing, find_compiler
from tests.compiler.targets.cpp.kernels_under_test import (
    EMULATED_NEON,
    Kernels,
    kernel_names,
)


@pytest.fixture(scope="session")
def object_cache(program_cache: Path) -> Path:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    return program_cache


LEVELS = [
    pytest.param(name, marks=[pytest.mark.wide] if name == EMULATED_NEON else [])
    for name in kernel_names()
]


@pytest.fixture(scope="session", params=LEVELS)
def kernels(request: pytest.FixtureRequest, object_cache: Path) -> Iterator[Kernels]:
    found = Kernels(request.param, object_cache)
    yield found
    found.library.close()
