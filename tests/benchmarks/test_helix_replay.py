"""The replay of placements on small chains that can be checked by head."""

from pathlib import Path

import pytest

from benchmarks.helix import Instance, Placement, faults_of, objective
from benchmarks.helix_cards import CACHE_BYTES, LAYER_BYTES, LINK_SECONDS, Card
from benchmarks.helix_placements import published_placement
from benchmarks.helix_replay import Replay, parts_of
from benchmarks.helix_requests import Request

CARD = Card(memory=8 * LAYER_BYTES, bandwidth=LAYER_BYTES * 10.0, operations=1e18)
EDGES = [("source", str(n)) for n in range(3)] + [(str(n), "sink") for n in range(3)]
INSTANCE = Instance(
    num_layers=4,
    rates=((100.0, 50.0, 20.0),),
    nodes=(0, 0, 0),
    caps=dict.fromkeys(
        [*EDGES, *((str(a), str(b)) for a in range(3) for b in range(3) if a != b)], 1e6
    ),
    published=0.0,
)
CHAIN = Placement(
    {0: (0, 2), 1: (2, 2)}, {("source", "0"): 50.0, ("0", "1"): 50.0, ("1", "sink"): 50.0}
)


def test_a_solution_is_read_and_its_flow_found(tmp_path: Path) -> None:
    path = tmp_path / "one.sol"
    lines = ["# Solution", "start_0 0", "start_1 2", "start_2 1", "flow_0_1 3"]
    lines += [
        f"hold_{node}_{k} {int(k == held)}"
        for node, held in ((0, 2), (1, 2), (2, 3))
        for k in (1, 2, 3)
    ]
    path.write_text("\n".join(lines) + "\n")
    placement = published_placement(path, INSTANCE)
    assert placement.ranges == {0: (0, 2), 1: (2, 2), 2: (1, 3)}
    # Only node 0 begins at layer 0; behind it go node 1 and the end of node 2's range.
    assert objective(placement) == pytest.approx(50.0)
    assert faults_of(INSTANCE, placement, tolerance=1e-6) == []


def test_a_lone_request_takes_its_layers_and_its_links() -> None:
    replay = Replay(INSTANCE, CHAIN, [CARD], [Request(100, 41)], 1)
    found = replay.run(seconds=1000.0, warm_up=0.0)
    # Two nodes read two layers in 0.2 s each; the link's time for 16 KiB is next to nothing.
    assert found.tpot == pytest.approx(2 * (0.2 + LINK_SECONDS), rel=0.001)
    assert (found.hops, found.tokens_per_second) == (2.0, 41 / 1000)


def test_many_requests_come_near_the_rate_of_the_slowest_node() -> None:
    requests = [Request(1, 50) for _ in range(4000)]
    found = Replay(INSTANCE, CHAIN, [CARD], requests, 200).run(seconds=600.0, warm_up=200.0)
    assert found.tokens_per_second == pytest.approx(50.0, rel=0.05)
    assert found.busiest > 0.95


def test_the_cache_of_a_node_holds_requests_back() -> None:
    # Beside 2 layers a node has room for two requests of these lengths, not for three.
    size = 6 * LAYER_BYTES * 0.9 / (2 * CACHE_BYTES) / 2.5
    requests = [Request(int(size) - 20, 20) for _ in range(20)]
    found = Replay(INSTANCE, CHAIN, [CARD], requests, 100).run(seconds=300.0, warm_up=0.0)
    assert found.sequences <= 2.0


def test_answers_pass_a_long_prompt_that_goes_in_chunks() -> None:
    # Two layers of 1,000 prompt tokens take 2 s, of 100 as long as reading the weights, 0.2 s.
    card = Card(CARD.memory, CARD.bandwidth, operations=LAYER_BYTES * 2000.0)
    requests = [Request(10, 2000), *(Request(1000, 10) for _ in range(200))]
    whole, chunked = (
        Replay(INSTANCE, CHAIN, [card], requests_of(requests), 8, chunk).run(300.0, 0.0)
        for chunk in (1000, 100)
    )
    assert chunked.tokens_per_second > 1.4 * whole.tokens_per_second


def test_chains_that_share_nothing_are_parts_of_their_own() -> None:
    both = Placement(
        {0: (0, 2), 1: (2, 2), 2: (0, 4)},
        {("source", "0"): 1.0, ("0", "1"): 1.0, ("1", "sink"): 1.0, ("source", "2"): 1.0},
    )
    part = parts_of(both)
    assert part[0] == part[1] != part[2]


def requests_of(requests: list[Request]) -> list[Request]:
    return [Request(each.prompt, each.answer) for each in requests]
