"""The verifier of Helix placements, on a model of four layers and two nodes."""

from dataclasses import replace

import pytest

from banyan.planner.serving.pipelines import choose_pipelines
from benchmarks.helix import Instance, Placement, faults_of, objective, place, problem_of

CAPS = {
    ("source", "0"): 100.0,
    ("source", "1"): 100.0,
    ("0", "1"): 50.0,
    ("1", "0"): 50.0,
    ("0", "sink"): 100.0,
    ("1", "sink"): 100.0,
}
INSTANCE = Instance(
    num_layers=4,
    rates=((40.0, 20.0, 10.0),),
    nodes=(0, 0),
    caps=CAPS,
    published=0.0,
)
GOOD = Placement(
    {0: (0, 2), 1: (2, 2)}, {("source", "0"): 20.0, ("0", "1"): 20.0, ("1", "sink"): 20.0}
)


def test_a_chain_over_all_layers_is_valid() -> None:
    assert faults_of(INSTANCE, GOOD) == []
    assert objective(GOOD) == 20.0


def test_a_node_may_run_only_the_tail_of_its_range() -> None:
    placement = Placement(
        {0: (0, 2), 1: (1, 3)}, {("source", "0"): 10.0, ("0", "1"): 10.0, ("1", "sink"): 10.0}
    )
    assert faults_of(INSTANCE, placement) == []


@pytest.mark.parametrize(
    ("ranges", "flow", "words"),
    [
        ({0: (0, 2), 1: (2, 3)}, {}, "holds layers 2 to 5"),
        ({0: (0, 2), 1: (3, 1)}, {}, "0 ends at 2, 1 holds 3 to 4"),
        ({0: (0, 2), 1: (2, 1)}, {}, "ends at 3 of all layers"),
        ({0: (1, 1), 1: (2, 2)}, {}, "receives from the source"),
        ({}, {("source", "0"): 21.0, ("0", "1"): 21.0, ("1", "sink"): 21.0}, "21.0 of 20.0"),
        ({}, {("0", "1"): 10.0}, "20.0 enters, 10.0 leaves"),
        ({}, {("0", "1"): -20.0}, "carries -20.0"),
        ({}, {("0", "2"): 1.0}, "is no link"),
    ],
)
def test_each_fault_is_found(
    ranges: dict[int, tuple[int, int]], flow: dict[tuple[str, str], float], words: str
) -> None:
    bad = Placement({**GOOD.ranges, **ranges}, {**GOOD.flow, **flow})
    assert any(words in fault for fault in faults_of(INSTANCE, bad))


def test_a_narrow_link_is_found() -> None:
    narrow = replace(INSTANCE, caps={**CAPS, ("0", "1"): 19.0})
    assert faults_of(narrow, GOOD) == ["0 -> 1 carries 20.0 of 19.0"]


def test_what_the_planner_places_is_valid() -> None:
    placement = place(INSTANCE, choose_pipelines(problem_of(INSTANCE)))
    assert faults_of(INSTANCE, placement) == []
    assert objective(placement) == 20.0
