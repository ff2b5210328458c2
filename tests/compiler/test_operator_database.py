"""PyTorch's own samples of its operations, through capture, the interpreter and machine code.

No answer may be wrong. An operation may stay a call to PyTorch, if it says why; a sample may be
refused with a clear error, for example where the size of the result depends on the data.

`make wide` takes every operation, in slices, of which one is run by
`pytest -m wide tests/compiler/test_operator_database.py -k "slice-7]"`.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

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
FEW = 14
"""Operations of the default run."""
SLICES = 16
LEAST_NATIVE = 15
"""Operations that every slice computes with our kernels alone: 240 of all, at least."""
SAMPLES_OF_A_GRAPH = 60


@dataclass(slots=True)
class Outcome:
    """Attributes:
    ran: operations of which at least one sample ran.
    outside: those that call PyTorch in some sample.
    refused: why a sample did not run, by its name.
    """

    ran: set[str] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def device(program_cache: Path) -> Iterator[Device]:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    found = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=2)
    yield found
    found.close()


def shuffled() -> list[Any]:
    """Every operation, in an order that is always the same."""
    listed = entries()
    return random.Random(SEED).sample(listed, len(listed))


def samples_of(chosen: Iterable[Any], count: int) -> Iterator[list[Sample]]:
    """`count` samples of each operation in every element type, a graph's worth at a time."""
    every = (s for entry in chosen for dtype in DTYPES for s in samples(entry, dtype, count))
    while part := list(islice(every, SAMPLES_OF_A_GRAPH)):
        yield part


def interpreted(captured: Captured) -> dict[str, Array]:
    return run_graph(captured.graph, captured.arguments(), call_extern=call_extern)


def machine_code(device: Device, directory: Path) -> Calculate:
    def calculate(captured: Captured) -> dict[str, Array]:
        options = CompileOptions(directory, optimise=False)
        program = compile_graph(captured.graph, device=device, options=options)
        found = program.run(captured.arguments())
        return {name: array.copy() for name, array in found.items()}

    return calculate


def check(parts: Iterator[list[Sample]], *ways: Calculate) -> Outcome:
    """Run samples in each way; no answer is wrong, and every call to PyTorch says why."""
    outcome = Outcome()
    mistakes: list[str] = []
    for part in parts:
        for captured in capture(part, outcome.refused):
            for number, calculate in enumerate(ways):
                for whole, found in run(captured, outcome.refused, calculate):
                    mistakes += [f"way {number}: {text}" for _, text in whole.mistakes(found)]
                    outcome.ran |= {sample.entry for sample in whole.samples}
            for sample, uses in captured.externs():
                outcome.outside |= {sample.entry for _ in uses}
                assert all(use.reason for use in uses)
    assert mistakes == []
    assert all(outcome.refused.values())
    return outcome


def test_some_operations_agree_with_pytorch_interpreted() -> None:
    assert len(check(samples_of(shuffled()[:FEW], 2), interpreted).ran) >= FEW - 4


def test_some_operations_agree_with_pytorch_in_machine_code(
    device: Device, program_cache: Path
) -> None:
    chosen = shuffled()[: FEW // 2]
    outcome = check(samples_of(chosen, 1), machine_code(device, program_cache))
    assert len(outcome.ran) >= FEW // 2 - 2


@pytest.mark.wide
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(SLICES), ids=lambda n: f"slice-{n}")
def test_every_operation_agrees_with_pytorch_interpreted_and_in_machine_code(
    number: int, device: Device, tmp_path: Path
) -> None:
    parts = samples_of(shuffled()[number::SLICES], 3)
    outcome = check(parts, interpreted, machine_code(device, tmp_path))
    assert len(outcome.ran - outcome.outside) >= LEAST_NATIVE
