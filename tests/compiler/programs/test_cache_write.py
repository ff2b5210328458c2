import numpy as np
import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.passes.tile import tile
from banyan.compiler.targets.interpreter.run import run_graph
from tests.compiler.programs.paging import pack_width, random_caches


def write_graph(shape: tuple[int, ...], dtype: DType, layout: str) -> Graph:
    builder, tokens = Builder(), symbol("tokens", 1, 64)
    inputs = (
        builder.input("cache", TensorType((symbol("blocks", 1, 64), *shape), dtype), "state"),
        builder.input("rows", TensorType((tokens, 2, 8), dtype)),
        builder.input("slots", TensorType((tokens,), DType.INT64)),
    )
    node = builder.add("cache_write", inputs, layout=layout)
    return Graph("write", inputs, (Output("new", node, "cache"),))


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16])
@pytest.mark.parametrize("slots", [[32], [30, 31, 32, 33, 34], [35, 36], [-1, 16, 48, 49]])
def test_the_first_value_of_a_block_clears_what_another_sequence_left(
    dtype: DType, slots: list[int]
) -> None:
    generator = np.random.default_rng(1)
    _, values = random_caches(generator, 5, 2, 8, dtype)
    values[:] = np.nan
    rows = generator.normal(size=(len(slots), 2, 8)).astype(dtype.numpy)
    graph = write_graph(values.shape[1:], dtype, "values")
    arrays = {"cache": values, "rows": rows, "slots": np.array(slots)}
    found = np.asarray(run_graph(tile(graph), arrays)["new"], np.float32)
    np.testing.assert_array_equal(found, np.asarray(run_graph(graph, arrays)["new"], np.float32))
    begun = {slot // 16 for slot in slots if slot >= 0 and slot % 16 == 0}
    assert {block for block in range(5) if not np.isnan(found[block]).any()} == begun


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16])
@pytest.mark.parametrize("layout", ["keys", "values"])
def test_rows_land_at_their_slots_and_negative_slots_write_nothing(
    dtype: DType, layout: str
) -> None:
    generator = np.random.default_rng(1)
    keys, values = random_caches(generator, 5, 2, 8, dtype)
    cache = keys if layout == "keys" else values
    rows = generator.normal(size=(4, 2, 8)).astype(dtype.numpy)
    graph = write_graph(cache.shape[1:], dtype, layout)
    arrays = {"cache": cache, "rows": rows, "slots": np.array([3, -1, 79, 16])}

    lowered = tile(graph)
    found = run_graph(lowered, arrays)["new"]

    np.testing.assert_array_equal(found, run_graph(graph, arrays)["new"])
    width = pack_width(dtype)
    if layout == "keys":
        assert found[4, 1, 3 // width, 15, 3 % width] == rows[2, 1, 3]
    else:
        assert found[0, 1, 3 // width, 5, 3 % width] == rows[0, 1, 5]


def test_the_cache_is_updated_in_place() -> None:
    builder = Builder()
    inputs = (
        builder.input("cache", TensorType((3, 1, 4, 16, 1), DType.FLOAT32), "state"),
        builder.input("rows", TensorType((2, 1, 4), DType.FLOAT32)),
        builder.input("slots", TensorType((2,), DType.INT64)),
    )
    node = builder.add("cache_write", inputs, layout="keys")
    lowered = tile(Graph("write", inputs, (Output("new", node, "cache"),)))
    (call,) = [n for n in lowered.nodes() if n.op == "call"]
    kernel = call.attr("kernel")
    assert [p.attr("access") for p in kernel.pointers] == ["update", "read", "read"]  # type: ignore[union-attr]
