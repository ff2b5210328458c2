"""Graphs cut anywhere, run segment by segment by the interpreter, against the whole graph."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banyan.compiler.cutting.segments import Segment, cut_graph
from banyan.compiler.ir.graph import Graph, Node
from banyan.compiler.ir.parse import parse_graph
from banyan.foundation.errors import GraphError
from tests.compiler.cutting.steps import assert_same_bits, run_segments, run_whole, step_of
from tests.conftest import Checkpoint
from tests.models.checkpoints import DECODER_KINDS

ORDINARY_KINDS = ("llama_tied", "qwen3_moe")


def cut_by_text(text: str, places: dict[str, tuple[str, ...]]) -> tuple[Segment, ...]:
    """Cut a graph by the operations of its nodes."""
    return cut_graph(parse_graph(text), lambda node: places[node.op])


SMALL = """graph small {
  symbol n in [1, 64]
  %0 = input {name="x", packing=none, role="argument"} : f32[n, 4]
  %1 = input {name="w", packing=none, role="weight"} : f32[4, 4]
  %2 = input {name="v", packing=none, role="weight"} : f32[4, 4]
  %3 = dot %0, %1 {dtype=f32, transpose_b=true} : f32[n, 4]
  %4 = reshape %3 {shape=([n], 1, 4)} : f32[n, 1, 4]
  %5 = expand %4 {shape=([n], 8, 4)} : f32[n, 8, 4]
  %6 = reduce %5 {axes=(1), kind="sum"} : f32[n, 4]
  %7 = dot %6, %2 {dtype=f32, transpose_b=true} : f32[n, 4]
  output y = %7
}
"""
HERE, THERE = ("here",), ("there",)


def test_work_goes_there_and_back_and_a_grown_value_crosses_before_it_grows() -> None:
    first, second, third = cut_by_text(
        SMALL, {"dot": HERE, "reshape": HERE, "expand": HERE, "reduce": THERE}
    )
    assert [first.place, second.place, third.place] == ["here", "there", "here"]
    (value,) = second.received
    assert first.given == (value,)
    assert {str(o.node.type) for o in first.graph.outputs} == {"f32[n, 4]"}
    assert third.given == ("y",)
    assert dict(third.received) == {second.given[0]: "there"}
    weights = [
        [str(node.attr("name")) for node in segment.graph.inputs if node.attr("role") == "weight"]
        for segment in (first, second, third)
    ]
    assert weights == [["w"], [], ["v"]]


def test_one_place_is_one_segment() -> None:
    (only,) = cut_by_text(SMALL, dict.fromkeys(("dot", "reshape", "expand", "reduce"), HERE))
    assert only.received == {}
    assert only.given == ("y",)


def test_what_is_computed_at_both_places_is_sent_by_neither() -> None:
    both = ("here", "there")
    segments = cut_by_text(SMALL, {"dot": both, "reshape": both, "expand": both, "reduce": THERE})
    assert [segment.place for segment in segments] == ["there", "here"]
    there, here = segments
    assert there.received == {}
    assert list(here.received.values()) == ["there"]


STATEFUL = """graph stateful {
  symbol n in [1, 64]
  %0 = input {name="x", packing=none, role="argument"} : f32[n]
  %1 = input {name="s", packing=none, role="state"} : f32[n]
  %2 = add %0, %1 : f32[n]
  %3 = exp %2 : f32[n]
  %4 = mul %3, %2 : f32[n]
  output y = %4
  output s.updated = %4 updates s
}
"""


def test_a_state_that_waits_for_another_place_is_refused() -> None:
    with pytest.raises(GraphError, match="on both sides of something at another place"):
        cut_by_text(STATEFUL, {"input": HERE, "add": HERE, "mul": HERE, "exp": THERE})


def spread(bounds: Sequence[int], places: Sequence[tuple[str, ...]]) -> Callable[[Graph], object]:
    """Places by runs of node numbers: `bounds` are permille of all nodes."""

    def of_graph(graph: Graph) -> Callable[[Node], tuple[str, ...]]:
        nodes = graph.nodes()
        number = {node: 1000 * i // len(nodes) for i, node in enumerate(nodes)}
        return lambda node: places[sum(number[node] >= bound for bound in sorted(bounds))]

    return of_graph


PLACES = st.sampled_from([("a",), ("b",), ("c",), ("a", "b"), ("b", "c", "a")])


def layouts(most: int) -> st.SearchStrategy[tuple[list[int], list[tuple[str, ...]]]]:
    """Bounds, and one more places."""
    return st.integers(0, most).flatmap(
        lambda count: st.tuples(
            st.lists(st.integers(0, 1000), min_size=count, max_size=count),
            st.lists(PLACES, min_size=count + 1, max_size=count + 1),
        )
    )


def check_any_cut(directory: Path, cache: Path, num_examples: int) -> None:
    graph, arrays = step_of(directory, cache)
    wanted = run_whole(graph, arrays)

    @settings(
        max_examples=num_examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(layouts(12))
    def holds(layout: tuple[list[int], list[tuple[str, ...]]]) -> None:
        segments = cut_graph(graph, spread(*layout)(graph))  # type: ignore[arg-type]
        assert_same_bits(run_segments(segments, arrays), wanted)

    holds()


@pytest.mark.parametrize("kind", ORDINARY_KINDS)
def test_any_cut_gives_the_bits_of_the_whole(
    kind: str, checkpoint: Checkpoint, program_cache: Path
) -> None:
    check_any_cut(checkpoint(kind), program_cache, 4)


@pytest.mark.wide
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", DECODER_KINDS)
def test_any_cut_of_every_family_gives_the_bits_of_the_whole(
    kind: str, checkpoint: Checkpoint, program_cache: Path
) -> None:
    check_any_cut(checkpoint(kind), program_cache, 60)
