import numpy as np
import pytest

from banyan.compiler.ir.graph import Builder, Graph, Kernel, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.tuner.work import kernel_work
from tests.compiler.programs.test_paged_attention import attention_graph, step


def linear() -> Kernel:
    builder = Builder()
    x = builder.input("x", TensorType((symbol("tokens", 1, 4096), 128), DType.BFLOAT16))
    w = builder.input("w", TensorType((256, 128), DType.BFLOAT16), "weight")
    node = builder.add("dot", (x, w), transpose_b=True, dtype=DType.BFLOAT16)
    return only_kernel(Graph("linear", (x, w), (Output("out", builder.add("exp", (node,))),)))


def only_kernel(graph: Graph) -> Kernel:
    (call,) = (node for node in lower(graph).nodes() if node.op == "call")
    kernel = call.attr("kernel")
    assert isinstance(kernel, Kernel)
    return kernel


@pytest.mark.parametrize("tokens", [1, 64, 300, 4096])
def test_a_linear_layer_counts_its_products_and_reads_each_byte_once(tokens: int) -> None:
    work = kernel_work(linear(), {"tokens": tokens})
    ((kind, products),) = work.products
    assert kind == "bf16"
    assert products == pytest.approx(2 * tokens * 128 * 256, rel=0.15)
    assert work.bytes_moved == pytest.approx((2 * tokens * 128, 2 * 256 * 128, 2 * tokens * 256))
    assert work.elements == pytest.approx(8 * tokens * 256, rel=0.3)


def test_an_empty_grid_has_no_work() -> None:
    work = kernel_work(linear(), {"tokens": 0})
    assert (work.operations, work.elements, work.num_bytes) == (0, 0, 0)


def test_attention_counts_the_keys_that_lengths_let_it_see() -> None:
    kernel = only_kernel(attention_graph(4, 2, 8, DType.FLOAT32, 0))
    arrays = step([1, 1], [100, 100], 4, 2, DType.FLOAT32)
    sizes = {"tokens": 2, "sequences": 2, "blocks": 24, "columns": arrays["tables"].shape[1]}
    known = [arrays.get(str(pointer.attr("name"))) for pointer in kernel.pointers]
    work = kernel_work(kernel, sizes, known)
    rounded_keys = 128  # steps of eight blocks
    assert work.operations == pytest.approx(2 * 2 * 4 * rounded_keys * 8 * 2)


def test_without_the_lengths_a_loop_over_keys_counts_once() -> None:
    kernel = only_kernel(attention_graph(4, 2, 8, DType.FLOAT32, 0))
    few = kernel_work(kernel, {"tokens": 2, "sequences": 2, "blocks": 24, "columns": 24})
    many = kernel_work(kernel, {"tokens": 2, "sequences": 2, "blocks": 24, "columns": 48})
    assert 0 < few.operations == many.operations


def test_a_lookup_reads_only_the_rows_it_looks_up() -> None:
    builder = Builder()
    ids = builder.input("ids", TensorType((symbol("tokens", 1, 64),), DType.INT64))
    table = builder.input("table", TensorType((1000, 32), DType.FLOAT32), "weight")
    found = builder.add("gather", (table, ids), axis=0)
    kernel = only_kernel(Graph("lookup", (ids, table), (Output("out", found),)))
    moved = dict(
        zip(
            (str(p.attr("name")) for p in kernel.pointers),
            kernel_work(kernel, {"tokens": 3}).bytes_moved,
            strict=True,
        )
    )
    assert sorted(moved.values()) == [3 * 8, 3 * 32 * 4, 3 * 32 * 4]


def test_what_a_loop_reads_is_limited_by_what_there_is() -> None:
    kernel = only_kernel(attention_graph(4, 2, 8, DType.FLOAT32, 0))
    lengths = np.array([380, 380], np.int32)
    sizes = {"tokens": 2, "sequences": 2, "blocks": 4, "columns": 24}
    given = {"lengths": lengths, "starts": np.array([0, 1, 2], np.int32)}
    known = [given.get(str(pointer.attr("name"))) for pointer in kernel.pointers]
    work = kernel_work(kernel, sizes, known)
    keys = 4 * 2 * 8 * 16 * 4
    assert work.bytes_moved[1] == keys
