"""Printed programs do what the interpreter does."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.targets.interpreter import run_graph
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.devices.instruction_sets import InstructionSet, detect_instruction_sets
from banyan.foundation.settings import Settings
from tests.compiler.ir.sample_kernels import row_squares_graph
from tests.compiler.random_graphs import cases
from tests.compiler.random_values import Case
from tests.compiler.targets.cpp.batches import build_batch
from tests.compiler.targets.cpp.kernels_under_test import program_levels

TOLERANCE = {DType.FLOAT32: 1e-4, DType.BFLOAT16: 2e-2}
N = symbol("n", 1, 40)
F32, BF16, I64 = DType.FLOAT32, DType.BFLOAT16, DType.INT64


@pytest.fixture(scope="module")
def device(object_cache: Path) -> Iterator[Device]:
    found = find_device("cpu", settings=Settings(cache_directory=object_cache), num_threads=2)
    yield found
    found.close()


def assert_agrees(case: Case, found: Mapping[str, Any]) -> None:
    wanted = run_graph(case.graph, case.arrays)
    kinds = [node.type for node in case.graph.nodes() if isinstance(node.type, TensorType)]
    narrow = any(kind.dtype is BF16 for kind in kinds)
    bound = TOLERANCE[BF16 if narrow else F32]
    for name, value in wanted.items():
        assert found[name].shape == value.shape, f"{name} of {case!r}"
        left, right = (np.asarray(v, np.float64) for v in (found[name], value))
        np.testing.assert_allclose(
            left, right, rtol=bound, atol=bound, err_msg=f"{name} of {case!r}"
        )


@pytest.mark.parametrize("level", program_levels(), ids=lambda level: str(level.name))
def test_random_graphs_agree_with_the_interpreter(
    level: InstructionSet, device: Device, object_cache: Path
) -> None:
    found: list[Case] = []

    @settings(
        max_examples=16,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    graphs = [case.graph for case in found]
    programs = build_batch(graphs, level, device=device, cache_directory=object_cache)
    for case, program in zip(found, programs, strict=True):
        assert_agrees(case, program.run(case.arrays))


class Graphs:
    """Small graphs by name, one for each family of operations."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.random = np.random.default_rng(5)

    def add(self, op: str, *args: Node, **attrs: Any) -> Node:
        return self.builder.add(op, args, **attrs)

    def case(self, shapes: dict[str, tuple[Any, DType]], *outputs: Any) -> Case:
        """`outputs` are functions of the inputs; n is 7."""
        nodes = [
            self.builder.input(name, TensorType(shape, dtype))
            for name, (shape, dtype) in shapes.items()
        ]
        arrays = {
            name: self.array(tuple(7 if size is N else size for size in shape), dtype)
            for name, (shape, dtype) in shapes.items()
        }
        results = [Output(f"y{i}", make(self, *nodes)) for i, make in enumerate(outputs)]
        return Case(Graph("case", tuple(nodes), tuple(results)), arrays)

    def array(self, shape: tuple[int, ...], dtype: DType) -> Any:
        if dtype.is_floating:
            return self.random.standard_normal(shape).astype(dtype.numpy)
        return self.random.integers(0, 5, shape).astype(dtype.numpy)


def unary(op: str) -> Any:
    return lambda g, x: g.add(op, g.add("add", g.add("abs", x), g.add("abs", x)))


def binary(op: str) -> Any:
    return lambda g, x, y: g.add(op, x, y)


def reduced(kind: str, axes: tuple[int, ...]) -> Any:
    return lambda g, x: g.add("reduce", x, axes=axes, kind=kind)


def ramp(graphs: Graphs, dtype: DType) -> Node:
    return graphs.add("data", values=(-2, 0, 1, 2, 30), shape=(5,), dtype=dtype)


UNARY = ("exp", "log", "sqrt", "rsqrt", "tanh", "erf", "sin", "cos", "sigmoid", "floor", "neg")
BINARY = ("add", "sub", "mul", "div", "min", "max", "floordiv", "mod")
COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
KINDS = ("sum", "max", "min", "prod", "argmax")


def family_cases() -> list[Case]:
    make = Graphs
    integers = ("add", "sub", "mul", "min", "max", "and", "or", "xor")
    return [
        make().case({"x": ((N, 19), F32)}, *map(unary, UNARY)),
        make().case({"x": ((N, 19), BF16)}, *map(unary, UNARY)),
        make().case({"x": ((N, 5), F32), "y": ((N, 5), F32)}, *map(binary, BINARY + COMPARE)),
        make().case({"x": ((N, 5), I64), "y": ((N, 5), I64)}, *map(binary, integers + COMPARE)),
        make().case({"x": ((N, 5), DType.INT8), "y": ((N, 5), DType.INT8)}, *map(binary, integers)),
        make().case({"x": ((N, 33), F32)}, *(reduced(kind, (1,)) for kind in KINDS)),
        make().case({"x": ((N, 4, 6), F32)}, *(reduced(kind, (0, 2)) for kind in KINDS[:4])),
        make().case({"x": ((N, 4, 6), F32)}, *(reduced(kind, (1,)) for kind in KINDS)),
        make().case({"x": ((N, 12), I64)}, *(reduced(kind, (1,)) for kind in KINDS)),
        make().case(
            {"x": ((N, 24), F32)},
            lambda g, x: g.add("cumsum", x, axis=1),
            lambda g, x: g.add("reshape", x, shape=(N, 4, 6)),
            lambda g, x: g.add("permute", g.add("reshape", x, shape=(N, 4, 6)), order=(2, 0, 1)),
            lambda g, x: g.add("slice", x, axis=1, start=3, stop=20, step=5),
            lambda g, x: g.add("concat", x, g.add("neg", x), axis=1),
            lambda g, x: g.add("pad", x, axis=1, low=2, high=3, value=1.5),
            lambda g, x: g.add("cast", g.add("mul", x, x), dtype=I64),
            lambda g, x: g.add("where", g.add("gt", x, g.add("neg", x)), x, g.add("mul", x, x)),
        ),
        make().case(
            {"x": ((N, 5), F32)},
            lambda g, x: g.add("mul", x, g.add("expand", ramp(g, F32), shape=(N, 5))),
            lambda g, x: g.add(
                "add", g.add("cast", x, dtype=BF16), g.add("expand", ramp(g, BF16), shape=(N, 5))
            ),
            lambda g, x: ramp(g, I64),
        ),
        make().case(
            {"x": ((9, 6), F32), "i": ((N,), I64)},
            lambda g, x, i: g.add("gather", x, i, axis=0),
        ),
        make().case(
            {"x": ((N, 6), F32), "i": ((N, 3), I64)},
            lambda g, x, i: g.add("take_along", x, i, axis=1),
        ),
        make().case(
            {"a": ((3, N, 8), F32), "b": ((3, 8, 70), F32), "c": ((3, 5, 8), F32)},
            lambda g, a, b, c: g.add("dot", a, b),
            lambda g, a, b, c: g.add("dot", a, c, transpose_b=True),
        ),
    ]


@pytest.mark.parametrize("level", program_levels(), ids=lambda level: str(level.name))
def test_every_family_of_operations_agrees_with_the_interpreter(
    level: InstructionSet, device: Device, object_cache: Path
) -> None:
    found = family_cases()
    graphs = [case.graph for case in found]
    programs = build_batch(graphs, level, device=device, cache_directory=object_cache)
    for case, program in zip(found, programs, strict=True):
        assert_agrees(case, program.run(case.arrays))


def test_a_hand_written_kernel_with_a_loop_and_a_bound_size_agrees_with_the_interpreter(
    device: Device, object_cache: Path
) -> None:
    graph = row_squares_graph()
    level = detect_instruction_sets()[0]
    (program,) = build_batch(
        [graph], level, device=device, cache_directory=object_cache, is_lowered=True
    )
    x = np.random.default_rng(0).standard_normal((13, 8)).astype(np.float32)
    np.testing.assert_allclose(program.run({"x": x})["y"], (x * x).sum(axis=1), rtol=1e-5)
