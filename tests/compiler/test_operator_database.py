"""PyTorch's own samples of its operations, through capture, the interpreter and machine code.

No answer may be wrong. An operation may stay a call to PyTorch, if it says why; a sample may be
refused with a clear error, for example where the size of the result depends on the data.
"""

import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.targets.interpreter.run import run_graph
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.devices.native import Missing, find_compiler
from banyan.foundation.settings import Settings
from tests.compiler.capture.capturing import call_extern
from tests.compiler.operator_database import (
    DTYPES,
    Array,
    Captured,
    Sample,
    capture,
    entries,
    run,
    samples,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, about odd samples

Calculate = Callable[[Captured], dict[str, Array]]
SEED = 20261122
FEW, MANY = 14, 1000
"""Operations of the default run and of the wide one."""
SAMPLES_OF_A_GRAPH = 60


@pytest.fixture
def device(program_cache: Path) -> Iterator[Device]:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    found = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=2)
    yield found
    found.close()


def chosen(count: int, samples_each: int) -> Iterator[list[Sample]]:
    """Samples of `count` operations in every element type, a graph's worth at a time."""
    listed = entries()
    picked = random.Random(SEED).sample(listed, min(count, len(listed)))
    every = (s for entry in picked for dtype in DTYPES for s in samples(entry, dtype, samples_each))
    while part := list(islice(every, SAMPLES_OF_A_GRAPH)):
        yield part


def interpreted(captured: Captured) -> dict[str, Array]:
    return run_graph(captured.graph, captured.arguments(), call_extern=call_extern)


def in_machine_code(captured: Captured, device: Device, directory: Path) -> dict[str, Array]:
    options = CompileOptions(directory, optimise=False)
    program = compile_graph(captured.graph, device=device, options=options)
    found = program.run(captured.arguments())
    return {name: array.copy() for name, array in found.items()}


def check(parts: Iterator[list[Sample]], calculate: Calculate) -> set[str]:
    """The operations that ran; none gives a wrong answer, and every call to PyTorch says why."""
    refused: dict[str, str] = {}
    ran: set[str] = set()
    mistakes: list[str] = []
    for part in parts:
        for captured in capture(part, refused):
            for whole, found in run(captured, refused, calculate):
                mistakes += [text for _, text in whole.mistakes(found)]
                ran |= {sample.entry for sample in whole.samples}
                reasons = [use.reason for _, uses in whole.externs() for use in uses]
                assert all(reasons)
    assert mistakes == []
    assert all(refused.values())
    return ran


def test_some_operations_agree_with_pytorch_interpreted() -> None:
    assert len(check(chosen(FEW, 2), interpreted)) >= FEW - 4


def test_some_operations_agree_with_pytorch_in_machine_code(
    device: Device, program_cache: Path
) -> None:
    def calculate(captured: Captured) -> dict[str, Array]:
        return in_machine_code(captured, device, program_cache)

    assert len(check(chosen(FEW // 2, 1), calculate)) >= FEW // 2 - 2


@pytest.mark.wide
@pytest.mark.timeout(3600)
def test_every_operation_agrees_with_pytorch_interpreted() -> None:
    assert len(check(chosen(MANY, 4), interpreted)) >= 400


@pytest.mark.wide
@pytest.mark.timeout(7200)
def test_every_operation_agrees_with_pytorch_in_machine_code(
    device: Device, program_cache: Path
) -> None:
    def calculate(captured: Captured) -> dict[str, Array]:
        return in_machine_code(captured, device, program_cache)

    assert len(check(chosen(MANY, 1), calculate)) >= 400
