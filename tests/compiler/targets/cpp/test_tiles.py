"""Every operation on tiles inside a hand-written kernel does what the interpreter does."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banyan.compiler.ir.graph import Builder, Graph, Kernel, Node, Output, Region, scalar_type
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.targets.interpreter import run_graph
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.foundation.settings import Settings
from tests.compiler.targets.cpp.batches import build_batch

N = symbol("n", 1, 12)
F32, BF16, I64, I32 = DType.FLOAT32, DType.BFLOAT16, DType.INT64, DType.INT32
Make = Callable[..., Node]


@pytest.fixture(scope="module")
def device(object_cache: Path) -> Iterator[Device]:
    found = find_device("cpu", settings=Settings(cache_directory=object_cache), num_threads=2)
    yield found
    found.close()


def number(builder: Builder, value: int) -> Node:
    return builder.add("constant", value=value, dtype=I64, space="tile")


def real(builder: Builder, value: float) -> Node:
    return builder.add("constant", value=value, dtype=F32, space="tile")


def whole_load(builder: Builder, pointer: Node) -> Node:
    starts = [number(builder, 0)] * len(pointer.shape)
    kinds = ("range",) * len(pointer.shape)
    return builder.add("load", (pointer, *starts), index=kinds, sizes=pointer.shape)


def tile_graph(shapes: dict[str, TensorType], make: Make) -> Graph:
    """A graph of one kernel that loads every input whole, computes `make`, stores it whole."""
    builder = Builder()
    inputs = [builder.input(name, kind) for name, kind in shapes.items()]
    pointers = [builder.pointer(name, kind, "read") for name, kind in shapes.items()]
    value = make(builder, *(whole_load(builder, pointer) for pointer in pointers))
    out = builder.pointer("out", TensorType(value.shape, value.dtype), "write")
    starts = [number(builder, 0)] * len(value.shape)
    kinds = ("range",) * len(value.shape)
    store = builder.add("store", (out, value, *starts), index=kinds, sizes=value.shape)
    item = builder.parameter(scalar_type(I64))
    kernel = Kernel("tile", (1,), (*pointers, out), Region((item,), (store,), ()))
    call = builder.add("call", inputs, kernel=kernel)
    return Graph("tile", tuple(inputs), (Output("y", builder.add("get", (call,), index=0)),))


def kind(*shape: Any, dtype: DType = F32) -> TensorType:
    return TensorType(shape, dtype)


def op(name: str, **attrs: Any) -> Make:
    return lambda builder, *tiles: builder.add(name, tiles, **attrs)


def twice(name: str, **attrs: Any) -> Make:
    """The operation on a tile that is itself computed, not loaded."""
    return lambda b, x, *rest: b.add(name, (b.add("exp", (x,)), *rest), **attrs)


def both_ways(builder: Builder, x: Node) -> Node:
    """A costly tile with two readers: softmax along the last axis."""
    raised = builder.add("exp", (x,))
    total = builder.add("reduce", (raised,), axes=(1,), kind="sum")
    column = builder.add("reshape", (total,), shape=(x.shape[0], 1))
    return builder.add("div", (raised, builder.add("expand", (column,), shape=x.shape)))


def costly_rows(builder: Builder, x: Node) -> Node:
    """A costly row that every outer step would compute again."""
    row = builder.add("reshape", (builder.add("sin", (x,)),), shape=(1, *x.shape))
    return builder.add("expand", (row,), shape=(9, *x.shape))


def fold(builder: Builder, x: Node, steps: int) -> Node:
    """A loop that carries two tiles which read each other, a moved tile and a scalar."""
    index = builder.parameter(scalar_type(I64))
    carried = [builder.parameter(x.tensor) for _ in range(3)]
    count = builder.parameter(scalar_type(F32))
    a, b, c = carried
    turned = builder.add("permute", (c,), order=(1, 0))
    one = real(builder, 1.0)
    results = (
        builder.add("add", (b, builder.add("expand", (count,), shape=x.shape))),
        builder.add("sub", (a, b)),
        builder.add("add", (turned, a)),
        builder.add("add", (count, one)),
    )
    start = (number(builder, 0), number(builder, steps), x, builder.add("neg", (x,)), x)
    body = Region((index, *carried, count), (), results)
    loop = builder.add("loop", (*start, one), step=1, body=body)
    parts = [builder.add("get", (loop,), index=i) for i in range(4)]
    total = builder.add("add", (parts[0], builder.add("add", (parts[1], parts[2]))))
    return builder.add("add", (total, builder.add("expand", (parts[3],), shape=x.shape)))


def packed_sums(builder: Builder, a: Node, b: Node) -> Node:
    """A loop that carries a fading sum which a packed dot adds to."""
    index = builder.parameter(scalar_type(I64))
    sums = builder.parameter(TensorType((a.shape[0], 16), F32, index.tensor.space))
    half = builder.add("expand", (real(builder, 0.5),), shape=sums.shape)
    first, second = (
        builder.add("dot", (left, b), packed=True, dtype=F32)
        for left in (a, builder.add("neg", (builder.add("mul", (a, a)),)))
    )
    grown = builder.add("add", (builder.add("mul", (sums, half)), first))
    grown = builder.add("add", (grown, second))
    zero = builder.add("expand", (real(builder, 0.0),), shape=sums.shape)
    ends = (number(builder, 0), number(builder, 3), zero)
    loop = builder.add("loop", ends, step=1, body=Region((index, sums), (), (grown,)))
    return builder.add("get", (loop,), index=0)


INTEGER = {"x": kind(N, 6, dtype=I64), "y": kind(N, 6, dtype=I64)}
SMALL = {"x": kind(N, 6, dtype=I32), "y": kind(N, 6, dtype=I32)}
CASES: dict[str, tuple[dict[str, TensorType], Make]] = {
    "slice": ({"x": kind(N, 24)}, op("slice", axis=1, start=1, stop=24, step=3)),
    "concat of fixed parts": ({"x": kind(N, 5), "y": kind(N, 3)}, op("concat", axis=1)),
    "concat of unknown parts": ({"x": kind(N, 5), "y": kind(3, 5)}, op("concat", axis=0)),
    "pad of a fixed axis": ({"x": kind(N, 5)}, op("pad", axis=1, low=2, high=3, value=1.5)),
    "pad of an unknown axis": ({"x": kind(N, 5)}, op("pad", axis=0, low=2, high=1, value=-1.0)),
    "gather": ({"x": kind(7, 5), "i": kind(N, dtype=I64)}, op("gather", axis=0)),
    "gather of computed rows": (
        {"x": kind(7, 5), "i": kind(N, dtype=I32)},
        twice("gather", axis=0),
    ),
    "take along": ({"x": kind(N, 7), "i": kind(N, 3, dtype=I64)}, op("take_along", axis=1)),
    "permute": ({"x": kind(N, 3, 4)}, op("permute", order=(2, 0, 1))),
    "reshape that splits": ({"x": kind(N, 24)}, op("reshape", shape=(N, 4, 6))),
    "reshape that joins": ({"x": kind(N, 4, 6)}, op("reshape", shape=(N * 24,))),
    "reshape across": ({"x": kind(N, 4, 6)}, op("reshape", shape=(N * 3, 8))),
    "reshape of unknown sizes": ({"x": kind(4, N, 6)}, op("reshape", shape=(N * 4, 6))),
    "reshape the other way": (
        {"x": kind(N * 4, 6), "z": kind(N)},
        lambda b, x, z: b.add("reshape", (x,), shape=(4, N, 6)),
    ),
    "cumsum of rows": ({"x": kind(N, 9)}, op("cumsum", axis=1)),
    "cumsum of columns": ({"x": kind(N, 9, dtype=I64)}, op("cumsum", axis=0)),
    "sum of rows": ({"x": kind(N, 33)}, op("reduce", axes=(1,), kind="sum")),
    "sum of columns": ({"x": kind(N, 33)}, op("reduce", axes=(0,), kind="sum")),
    "largest of columns": ({"x": kind(N, 5, 8, dtype=I32)}, op("reduce", axes=(0, 1), kind="max")),
    "any of rows": (
        {"x": kind(N, 33, dtype=DType.BOOL)},
        op("reduce", axes=(1,), kind="max"),
    ),
    "place of the largest": ({"x": kind(N, 5, 8)}, op("reduce", axes=(1, 2), kind="argmax")),
    "place in columns": ({"x": kind(N, 8)}, op("reduce", axes=(0,), kind="argmax")),
    "everything": (
        {"x": kind(N, 8)},
        lambda b, x: b.add("expand", (b.add("reduce", (x,), axes=(0, 1), kind="sum"),), shape=(3,)),
    ),
    "softmax": ({"x": kind(N, 40)}, both_ways),
    "repeated costly rows": ({"x": kind(30)}, costly_rows),
    "loop": ({"x": kind(6, 6)}, lambda b, x: fold(b, x, 4)),
    "loop of no steps": ({"x": kind(6, 6)}, lambda b, x: fold(b, x, 0)),
    "packed sums in float32": ({"a": kind(N, 8), "b": kind(8, 16, 1)}, packed_sums),
    "packed sums in bfloat16": (
        {"a": kind(N, 8, dtype=BF16), "b": kind(4, 16, 2, dtype=BF16)},
        packed_sums,
    ),
    "packed block": (
        {"a": kind(N, 8), "b": kind(8, 16, 1)},
        lambda b, x, block: b.add("exp", (b.add("dot", (x, block), packed=True, dtype=F32),)),
    ),
    "dot": ({"a": kind(N, 9), "b": kind(9, 70)}, op("dot", dtype=F32)),
    "dot of computed rows": ({"a": kind(N, 9), "b": kind(9, 70)}, twice("dot", dtype=F32)),
    "dot of batches": ({"a": kind(3, N, 9), "b": kind(3, 9, 7)}, op("dot", dtype=F32)),
    "dot with transposed batches": (
        {"a": kind(3, N, 9, dtype=BF16), "b": kind(3, 7, 9, dtype=BF16)},
        op("dot", transpose_b=True, dtype=F32),
    ),
    "packed dot": (
        {"a": kind(N, 64), "b": kind(2, 64, 16, 1)},
        op("packed_dot", columns=32, dtype=F32),
    ),
    "packed dot of padded panels": (
        {"a": kind(N, 40), "b": kind(2, 64, 16, 1)},
        op("packed_dot", columns=32, dtype=F32),
    ),
    "packed dot in bfloat16": (
        {"a": kind(N, 40, dtype=BF16), "b": kind(2, 32, 16, 2, dtype=BF16)},
        op("packed_dot", columns=32, dtype=F32),
    ),
    **{f"integer {name}": (INTEGER, op(name)) for name in ("floordiv", "mod", "min", "xor", "lt")},
    **{f"small {name}": (SMALL, op(name)) for name in ("add", "mul", "floordiv", "mod", "max")},
    "integer power": (INTEGER, lambda b, x, y: b.add("pow", (x, y))),
    "power": (
        {"x": kind(N, 6)},
        lambda b, x: b.add("pow", (x, b.add("expand", (real(b, 3.0),), shape=x.shape))),
    ),
    "root as a power": (
        {"x": kind(N, 6)},
        lambda b, x: b.add(
            "pow", (b.add("abs", (x,)), b.add("expand", (real(b, 0.5),), shape=x.shape))
        ),
    ),
    "integer abs": ({"x": kind(N, 6, dtype=I32)}, op("abs")),
    "integer not": ({"x": kind(N, 6, dtype=DType.BOOL)}, op("not")),
    "cast to bool": ({"x": kind(N, 6, dtype=I64)}, op("cast", dtype=DType.BOOL)),
    "cast to half": ({"x": kind(N, 6)}, op("cast", dtype=DType.FLOAT16)),
    "cast of bytes": ({"x": kind(N, 6, dtype=DType.UINT8)}, op("cast", dtype=BF16)),
    "counting": (
        {"x": kind(N, 6)},
        lambda b, x: b.add("iota", size=N, dtype=I64, space="tile"),
    ),
}


def arrays(graph: Graph) -> dict[str, Any]:
    random = np.random.default_rng(11)
    found = {}
    for node in graph.inputs:
        shape = tuple(d if isinstance(d, int) else _at_seven(d) for d in node.shape)
        if node.dtype.is_floating:
            value: Any = random.standard_normal(shape)
        else:
            value = random.integers(0 if node.attr("name") == "i" else 1, 3, shape)
        found[str(node.attr("name"))] = value.astype(node.dtype.numpy)
    return found


def _at_seven(dim: Any) -> int:
    from banyan.compiler.ir.symbols import evaluate  # noqa: PLC0415

    return evaluate(dim, {"n": 7})


def test_every_operation_on_tiles_agrees_with_the_interpreter(
    device: Device, object_cache: Path
) -> None:
    graphs = {name: tile_graph(*case) for name, case in CASES.items()}
    level = detect_instruction_sets()[0]
    programs = build_batch(
        list(graphs.values()), level, device=device, cache_directory=object_cache, is_lowered=True
    )
    for (name, graph), program in zip(graphs.items(), programs, strict=True):
        given = arrays(graph)
        wanted, found = run_graph(graph, given)["y"], program.run(given)["y"]
        left, right = found.astype(np.float64), wanted.astype(np.float64)
        bound = 2e-2 if any(n.dtype is BF16 for n in graph.inputs) else 1e-4
        np.testing.assert_allclose(left, right, rtol=bound, atol=bound, err_msg=name)
