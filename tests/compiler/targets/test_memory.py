"""Where values lie and when steps run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.compiler.ir.graph import Builder, Graph, Kernel, Node, Output, Region, scalar_type
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.targets.memory import (
    CopyStep,
    Launch,
    Location,
    Memory,
    Slot,
    arena_offsets,
    place_memory,
)
from banyan.foundation.errors import GraphError

T = symbol("T", 1, 100)
ROWS = TensorType((T, 4), DType.FLOAT32)


def copy_kernel(builder: Builder, *accesses: str) -> Kernel:
    """A kernel with one pointer for each access; memory only looks at those."""
    pointers = tuple(builder.pointer(f"p{i}", ROWS, a) for i, a in enumerate(accesses))
    item = builder.parameter(scalar_type(DType.INT64))
    return Kernel("copy", (T,), pointers, Region((item,), (), ()))


def call(builder: Builder, kernel: Kernel, *args: Node) -> Node:
    made = builder.add("call", args, kernel=kernel)
    return builder.add("get", (made,), index=0)


def test_values_between_kernels_share_memory_when_their_lives_do_not_meet() -> None:
    builder = Builder()
    kernel = copy_kernel(builder, "read", "write")
    x = builder.input("x", ROWS)
    a = call(builder, kernel, x)
    b = call(builder, kernel, a)
    c = call(builder, kernel, b)
    placement = place_memory(Graph("chain", (x,), (Output("y", call(builder, kernel, c)),)))
    assert [(slot.first, slot.last) for slot in placement.slots] == [(0, 1), (1, 2), (2, 3)]
    offsets, total = arena_offsets(placement.slots, [1600, 1600, 1600])
    assert offsets[0] == offsets[2] != offsets[1]
    assert total == 3200
    assert placement.outputs == (Location(Memory.OUTPUT, 0),)


def test_an_update_takes_over_the_memory_of_the_state() -> None:
    builder = Builder()
    x, state = builder.input("x", ROWS), builder.input("cache", ROWS, "state")
    new = call(builder, copy_kernel(builder, "update", "read"), state, x)
    placement = place_memory(Graph("update", (x, state), (Output("cache.new", new, "cache"),)))
    (step,) = placement.steps
    assert isinstance(step, Launch)
    assert step.locations == (Location(Memory.INPUT, 1), Location(Memory.INPUT, 0))
    assert placement.slots == ()


def test_readers_of_the_old_state_run_before_its_update() -> None:
    builder = Builder()
    x, state = builder.input("x", ROWS), builder.input("cache", ROWS, "state")
    update, read = copy_kernel(builder, "update", "read"), copy_kernel(builder, "read", "write")
    new = call(builder, update, state, x)
    old = call(builder, read, state)
    graph = Graph("order", (x, state), (Output("new", new, "cache"), Output("old", old)))
    kernels = [step.kernel for step in place_memory(graph).steps if isinstance(step, Launch)]
    assert kernels == [read, update]


def test_an_update_that_its_own_reader_waits_for_is_refused() -> None:
    builder = Builder()
    x, state = builder.input("x", ROWS), builder.input("cache", ROWS, "state")
    new = call(builder, copy_kernel(builder, "update", "read"), state, x)
    both = call(builder, copy_kernel(builder, "read", "read", "write"), state, new)
    graph = Graph("circle", (x, state), (Output("new", new, "cache"), Output("y", both)))
    with pytest.raises(GraphError, match="read after the update"):
        place_memory(graph)


def test_an_argument_is_never_overwritten() -> None:
    builder = Builder()
    x, other = builder.input("x", ROWS), builder.input("other", ROWS)
    new = call(builder, copy_kernel(builder, "update", "read"), x, other)
    with pytest.raises(GraphError, match="would overwrite the argument 'x'"):
        place_memory(Graph("overwrite", (x, other), (Output("y", new),)))


def test_a_state_computed_elsewhere_is_copied_at_the_end() -> None:
    builder = Builder()
    x, state = builder.input("x", ROWS), builder.input("last", ROWS, "state")
    new = call(builder, copy_kernel(builder, "read", "write"), x)
    placement = place_memory(Graph("copy", (x, state), (Output("last.new", new, "last"),)))
    copy = placement.steps[-1]
    assert isinstance(copy, CopyStep)
    assert (copy.target, copy.num_bytes) == (Location(Memory.INPUT, 1), T * 16)


def test_a_node_that_is_not_lowered_is_refused() -> None:
    builder = Builder()
    x = builder.input("x", ROWS)
    graph = Graph("raw", (x,), (Output("y", builder.add("neg", (x,))),))
    with pytest.raises(GraphError, match="neg is not lowered"):
        place_memory(graph)


@st.composite
def slots_and_sizes(draw: st.DrawFn) -> tuple[list[Slot], list[int]]:
    spans = draw(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=14))
    slots = [Slot(0, first, first + length) for first, length in spans]
    sizes = [draw(st.integers(0, 1000)) for _ in slots]
    return slots, sizes


@given(slots_and_sizes())
def test_no_two_values_that_live_at_once_overlap(drawn: tuple[list[Slot], list[int]]) -> None:
    slots, sizes = drawn
    offsets, total = arena_offsets(slots, sizes)
    for i, one in enumerate(slots):
        assert offsets[i] % 64 == 0
        assert offsets[i] + sizes[i] <= total
        for j in range(i):
            if one.first <= slots[j].last and slots[j].first <= one.last:
                apart = offsets[i] + sizes[i] <= offsets[j] or offsets[j] + sizes[j] <= offsets[i]
                assert apart or 0 in (sizes[i], sizes[j])


def test_a_result_that_is_an_old_state_is_kept_before_anything_replaces_it() -> None:
    builder = Builder()
    x, state = builder.input("x", ROWS), builder.input("last", ROWS, "state")
    new = call(builder, copy_kernel(builder, "update", "read"), state, x)
    graph = Graph("old", (x, state), (Output("old", state), Output("last.new", new, "last")))
    placement = place_memory(graph)
    kept = CopyStep(Location(Memory.INPUT, 1), Location(Memory.OUTPUT, 0), T * 16)
    assert placement.steps[0] == kept
    assert placement.outputs == (Location(Memory.OUTPUT, 0), Location(Memory.INPUT, 1))


def test_two_states_that_change_places_are_copied_aside_first() -> None:
    builder = Builder()
    a, b = builder.input("a", ROWS, "state"), builder.input("b", ROWS, "state")
    placement = place_memory(Graph("swap", (a, b), (Output("a.n", b, "a"), Output("b.n", a, "b"))))
    ways = [(s.source, s.target) for s in placement.steps if isinstance(s, CopyStep)]
    first, second = Location(Memory.INPUT, 0), Location(Memory.INPUT, 1)
    aside, other = Location(Memory.OUTPUT, 0), Location(Memory.OUTPUT, 1)
    assert ways == [(second, aside), (first, other), (aside, first), (other, second)]
