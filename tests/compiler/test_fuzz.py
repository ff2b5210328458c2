"""Thousands of random graphs through every pass and the C++ target: no crash, no wrong number.

Ten thousand in slices that each fit a continuous integration run; the tests of Triton and OpenCL
run the same ones. `make wide` runs them all, which takes hours, and
`pytest -m wide tests/compiler/test_fuzz.py -k "slice-7]"` runs one.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from banyan.compiler.passes.pipeline import lower, stages
from banyan.compiler.targets.interpreter import run_graph
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.foundation.settings import Settings
from tests.compiler.comparing import assert_same_results
from tests.compiler.random_graphs import cases
from tests.compiler.random_values import Case
from tests.compiler.targets.cpp.batches import build_batch
from tests.compiler.targets.cpp.test_program import assert_agrees

GRAPHS_OF_SLICE = 250
SLICES = 40
GRAPHS_OF_PROGRAM = 25


@pytest.fixture(scope="module")
def device(program_cache: Path) -> Iterator[Device]:
    found = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=2)
    yield found
    found.close()


def random_cases(number: int, count: int, *, max_steps: int = 12) -> list[Case]:
    """The same cases for the same number."""
    found: list[Case] = []

    @seed(number)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(max_steps=max_steps))
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


@pytest.mark.wide
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(SLICES), ids=lambda n: f"slice-{n}")
def test_random_graphs_keep_every_number_through_passes_and_machine_code(
    number: int, device: Device, program_cache: Path
) -> None:
    found = random_cases(number, GRAPHS_OF_SLICE)
    for case in found:
        for _, graph in stages(case.graph):
            last = graph
        assert_same_results(case.graph, last, case.arrays, tolerance=1e-4)
    for first in range(0, len(found), GRAPHS_OF_PROGRAM):
        group = found[first : first + GRAPHS_OF_PROGRAM]
        graphs = [case.graph for case in group]
        level = detect_instruction_sets()[0]
        programs = build_batch(graphs, level, device=device, cache_directory=program_cache)
        for case, program in zip(group, programs, strict=True):
            assert_agrees(case, program.run(case.arrays))


def test_the_generator_gives_the_same_graphs_for_the_same_number() -> None:
    first, again = random_cases(3, 5), random_cases(3, 5)
    assert [repr(case) for case in first] == [repr(case) for case in again]
    assert all(lower(case.graph).outputs for case in first)
    assert all(run_graph(case.graph, case.arrays) for case in first)
