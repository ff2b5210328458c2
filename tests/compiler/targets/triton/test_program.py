"""Programs printed as Triton do what the oracle does, on Triton's own interpreter."""

from pathlib import Path

import pytest

from banyan.compiler.targets.triton.chips import Chip
from tests.compiler.targets.cpp.test_program import family_cases
from tests.compiler.targets.triton.running import CHIP, SMALL, assert_agrees
from tests.compiler.test_fuzz import random_cases


@pytest.mark.parametrize("number", range(len(family_cases())))
def test_every_family_of_operations_agrees_with_the_oracle(number: int, tmp_path: Path) -> None:
    case = family_cases()[number]
    assert_agrees(case.graph, case.arrays, tmp_path)


@pytest.mark.parametrize("chip", [CHIP, SMALL], ids=["whole", "pieces"])
def test_random_graphs_agree_with_the_oracle(chip: Chip, tmp_path: Path) -> None:
    for case in random_cases(1, 12, max_steps=8):
        assert_agrees(case.graph, case.arrays, tmp_path, chip)


@pytest.mark.wide
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chip", [CHIP, SMALL], ids=["whole", "pieces"])
@pytest.mark.parametrize("number", range(10), ids=lambda n: f"slice-{n}")
def test_hundreds_of_random_graphs_agree_with_the_oracle(
    number: int, chip: Chip, tmp_path: Path
) -> None:
    for case in random_cases(100 + number, 100):
        assert_agrees(case.graph, case.arrays, tmp_path, chip)
