"""Loads and stores taken apart."""

from banyan.compiler.ir.access import access_of
from banyan.compiler.ir.graph import Builder, scalar_type
from banyan.compiler.ir.types import DType, TensorType
from tests.compiler.ir.sample_kernels import number

F32, I64 = DType.FLOAT32, DType.INT64


def test_a_gather_comes_first_and_ranges_keep_their_dims() -> None:
    builder = Builder()
    table = builder.pointer("table", TensorType((9, 4, 6), F32), "read")
    rows = builder.add("iota", size=3, dtype=I64, space="tile")
    item = builder.parameter(scalar_type(I64))
    kinds, sizes = ("gather", "at", "range"), (3, 1, 6)
    load = builder.add("load", (table, rows, item, number(builder, 0)), index=kinds, sizes=sizes)
    access = access_of(load)
    assert access.pointer is table
    assert access.gathered == (rows,)
    assert access.gather_rank == 1
    assert access.ranges == (2,)
    assert access.dims[0] == ("gather", rows, 3, 9)
    assert access.dims[1] == ("at", item, 1, 4)


def test_a_store_has_its_value_before_its_indices() -> None:
    builder = Builder()
    out = builder.pointer("out", TensorType((8,), F32), "write")
    zero = number(builder, 0)
    value = builder.add("constant", value=1.0, dtype=F32, space="tile")
    tile = builder.add("expand", (value,), shape=(8,))
    store = builder.add("store", (out, tile, zero), index=("range",), sizes=(8,))
    access = access_of(store)
    assert access.indices == (zero,)
    assert access.gather_rank == 0
