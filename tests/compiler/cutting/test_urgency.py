"""What nobody waits for runs behind what is sent; places of small graphs are their operations."""

from banyan.compiler.cutting.segments import Segment, cut_graph
from banyan.compiler.ir.parse import parse_graph

SHARED = """graph shared {
  symbol n in [1, 64]
  %0 = input {name="x", packing=none, role="argument"} : f32[n, 4]
  %1 = input {name="w", packing=none, role="weight"} : f32[4, 4]
  %2 = input {name="v", packing=none, role="weight"} : f32[4, 4]
  %3 = dot %0, %1 {dtype=f32, transpose_b=true} : f32[n, 4]
  %4 = dot %3, %2 {dtype=f32, transpose_b=true} : f32[n, 4]
  %5 = reduce %3 {axes=(1), kind="sum"} : f32[n]
  %6 = reshape %5 {shape=([n], 1)} : f32[n, 1]
  %7 = expand %6 {shape=([n], 4)} : f32[n, 4]
  %8 = add %4, %7 : f32[n, 4]
  output y = %8
}
"""


def weights_of(segment: Segment) -> list[str]:
    names = [str(n.attr("name")) for n in segment.graph.inputs if n.attr("role") == "weight"]
    return sorted(names)


def test_what_another_place_waits_for_is_sent_before_the_rest_is_computed() -> None:
    graph = parse_graph(SHARED)
    segments = cut_graph(graph, lambda node: ("there",) if node.op == "reduce" else ("here",))
    assert [(segment.place, weights_of(segment)) for segment in segments] == [
        ("here", ["w"]),
        ("here", ["v"]),
        ("there", []),
        ("here", []),
    ]
    first, beside, there, last = segments
    assert beside.received == dict.fromkeys(first.given, "here")
    assert there.received == dict.fromkeys(first.given, "here")
    assert set(last.received) == {*beside.given, *there.given}


def test_what_takes_no_time_makes_no_segment() -> None:
    graph = parse_graph(SHARED.replace("dot %3, %2 {dtype=f32, transpose_b=true}", "mul %3, %3"))
    segments = cut_graph(graph, lambda node: ("there",) if node.op == "reduce" else ("here",))
    assert [segment.place for segment in segments] == ["here", "there", "here"]


LATE_SUM = """graph late {
  symbol n in [1, 64]
  %0 = input {name="x", packing=none, role="argument"} : f32[n, 4]
  %1 = input {name="w", packing=none, role="weight"} : f32[4, 4]
  %2 = input {name="v", packing=none, role="weight"} : f32[4, 4]
  %3 = mul %0, %0 : f32[n, 4]
  %4 = dot %3, %1 {dtype=f32, transpose_b=true} : f32[n, 4]
  %5 = dot %3, %2 {dtype=f32, transpose_b=true} : f32[n, 4]
  %6 = add %5, %3 : f32[n, 4]
  %7 = reduce %4 {axes=(1), kind="sum"} : f32[n]
  %8 = reshape %7 {shape=([n], 1)} : f32[n, 1]
  %9 = expand %8 {shape=([n], 4)} : f32[n, 4]
  %10 = dot %9, %1 {dtype=f32, transpose_b=true} : f32[n, 4]
  %11 = add %10, %6 : f32[n, 4]
  output y = %11
}
"""


def test_a_sum_of_what_arrives_waits_until_it_is_used() -> None:
    """Experts of a layer that count later are added where the next layer's arrive."""
    graph = parse_graph(LATE_SUM)
    segments = cut_graph(graph, lambda node: ("experts",) if node.op == "dot" else ("rest",))
    assert [(segment.place, weights_of(segment)) for segment in segments] == [
        ("rest", []),
        ("experts", ["w"]),
        ("experts", ["v"]),
        ("rest", []),
        ("experts", ["w"]),
        ("rest", []),
    ]
    at_once, later, next_work = segments[1], segments[2], segments[3]
    assert set(next_work.received) == set(at_once.given)
    assert set(later.given) <= set(segments[5].received)
