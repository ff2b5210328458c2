"""Steps over quantised caches: a graph that writes rows and attends, its arguments, its meaning.

Two steps in a row: prompts over blocks where other sequences left their worst, then mixed tokens
that read what the first step wrote.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from banyan.compiler.executable import Executable
from banyan.compiler.ir.cached import CACHE_FORMATS, CacheFormat
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.targets.interpreter.run import run_graph
from tests.compiler.programs.paging import block_tables

NUM_BLOCKS = 24
PROMPTS, FOLLOWING = (19, 5), (1, 14)
"""New tokens of each sequence in the first and the second step."""

TOLERANCE = 3e-2
"""Of a result of standard normal rows in bfloat16, the only type that queries of them have."""

_NEW = ("queries", "new_keys", "new_values")


@dataclass(frozen=True, slots=True)
class RoundedCase:
    """A format, the shape of the heads (two query heads for each of keys) and what they see."""

    format: str
    kv_heads: int = 2
    size: int = 16
    window: int = 0

    def __str__(self) -> str:
        return f"{self.format}-{self.kv_heads}x{self.size}-{self.window}"

    @property
    def form(self) -> CacheFormat:
        return CACHE_FORMATS[self.format]


def rounded_graph(case: RoundedCase) -> Graph:
    """New rows go into a quantised cache, then queries attend over it."""
    form, heads, size = case.form, case.kv_heads, case.size
    builder = Builder()
    tokens, sequences = symbol("tokens", 1, 256), symbol("sequences", 1, 8)
    blocks = symbol("blocks", 1, 64)
    shapes = {"keys": form.key_shape(heads, size), "values": form.value_shape(heads, size)}
    scale = TensorType((blocks, *form.scale_shape(heads)), DType.FLOAT32)
    queries = builder.input("queries", TensorType((tokens, 2 * heads, size), DType.BFLOAT16))
    where = [
        builder.input("tables", TensorType((sequences, symbol("columns", 1, 64)), DType.INT32)),
        builder.input("starts", TensorType((sequences + 1,), DType.INT32)),
        builder.input("lengths", TensorType((sequences,), DType.INT32)),
    ]
    slots = builder.input("slots", TensorType((tokens,), DType.INT64))
    inputs, outputs, found = [queries, *where, slots], [], []
    for layout, shape in shapes.items():
        state = (
            builder.input(layout, TensorType((blocks, *shape), form.dtype), "state"),
            builder.input(f"{layout}_scales", scale, "state"),
        )
        rows = builder.input(f"new_{layout}", TensorType((tokens, heads, size), DType.BFLOAT16))
        node = builder.add("cache_write_quantized", (*state, rows, slots), layout=layout)
        written = [builder.add("get", (node,), index=i) for i in range(2)]
        inputs += [*state, rows]
        outputs += [
            Output(f"written {s.attr('name')}", w, str(s.attr("name")))
            for s, w in zip(state, written, strict=True)
        ]
        found.append(written)
    (keys, key_scales), (values, value_scales) = found
    arguments = (queries, keys, values, *where, key_scales, value_scales)
    result = builder.add("paged_attention", arguments, scale=0.25, window=case.window)
    return Graph("rounded", tuple(inputs), (Output("out", result), *outputs))


def first_states(case: RoundedCase) -> dict[str, Any]:
    """Caches where another sequence left its worst."""
    form, heads, size = case.form, case.kv_heads, case.size
    shapes = {"keys": form.key_shape(heads, size), "values": form.value_shape(heads, size)}
    states: dict[str, Any] = {
        name: np.full((NUM_BLOCKS, *shape), 126, np.int8).view(form.dtype.numpy)
        for name, shape in shapes.items()
    }
    scales = (NUM_BLOCKS, *form.scale_shape(heads))
    return states | {f"{name}_scales": np.full(scales, np.nan, np.float32) for name in shapes}


def given_steps(
    case: RoundedCase,
    prompts: tuple[int, ...] = PROMPTS,
    following: tuple[int, ...] = FOLLOWING,
) -> list[dict[str, Any]]:
    """The arguments of both steps."""
    generator = np.random.default_rng(3)
    lengths = np.zeros(len(prompts), np.int32)
    tables = block_tables(list(map(sum, zip(prompts, following, strict=True))), NUM_BLOCKS)
    steps: list[dict[str, Any]] = []
    for new in (prompts, following):
        places = [
            tables[s, p // 16].astype(np.int64) * 16 + p % 16
            for s, count in enumerate(new)
            for p in (lengths[s] + np.arange(count),)
        ]
        lengths = lengths + np.array(new, np.int32)
        arrays: dict[str, Any] = {
            "tables": tables,
            "starts": np.cumsum([0, *new]).astype(np.int32),
            "lengths": lengths,
            "slots": np.concatenate(places),
        }
        for name in _NEW:
            heads = case.kv_heads * (2 if name == "queries" else 1)
            rows = generator.normal(size=(sum(new), heads, case.size))
            arrays[name] = rows.astype(DType.BFLOAT16.numpy)
        steps.append(arrays)
    return steps


def meaning(
    graph: Graph, states: Mapping[str, Any], steps: list[dict[str, Any]]
) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """What each step gives by the interpreter, which follows the formulas."""
    results = []
    for arrays in steps:
        found = run_graph(graph, {**states, **arrays})
        results.append(np.asarray(found["out"], np.float32))
        states = {name: found[f"written {name}"] for name in states}
    return results


def check_program(program: Executable, case: RoundedCase, steps: list[dict[str, Any]]) -> None:
    """Run the steps one after the other: each gives what the interpreter says it means."""
    states = first_states(case)
    program.allocate_state({"blocks": NUM_BLOCKS})
    for name, array in states.items():
        program.write_state(name, array)
    wanted = meaning(rounded_graph(case), states, steps)
    for number, (arrays, right) in enumerate(zip(steps, wanted, strict=True)):
        found = np.asarray(program.run(arrays)["out"], np.float32)
        np.testing.assert_allclose(found, right, atol=TOLERANCE, err_msg=f"step {number}")


ROUNDED_CASES = [
    RoundedCase(name, window=window) for name in ("int8", "fp8", "int4") for window in (7, 0)
]
