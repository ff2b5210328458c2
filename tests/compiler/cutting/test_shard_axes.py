"""Which axis of a weight is cut, and when a rank's part of a quantised one can stand alone."""

import pytest

from banyan.compiler.cutting.shard_axes import (
    axis_of_weight,
    following_axis,
    linear_of_rank,
    share,
    slice_of,
)
from banyan.compiler.ir.graph import Builder, Node
from banyan.compiler.ir.types import DType, TensorType
from banyan.foundation.errors import InputError


def weight(name: str, *shape: int, dtype: DType = DType.FLOAT32) -> Node:
    return Builder().input(name, TensorType(shape, dtype), "weight")


@pytest.mark.parametrize(
    ("name", "shape", "axis"),
    [
        ("l.q_proj.weight", (64, 32), 0),
        ("l.q_proj.bias", (64,), 0),
        ("l.up_proj.weight", (8, 64, 32), 1),
        ("l.o_proj.weight", (32, 64), 1),
        ("l.o_proj.bias", (32,), None),
        ("l.down_proj.weight", (8, 32, 64), 2),
        ("l.q_proj.scales", (64, 1), 0),
        ("l.o_proj.scales", (32, 4), 1),
        ("l.o_proj.zeros", (32, 4), 1),
        ("l.o_proj.order", (64,), 0),
        ("l.q_proj.order", (32,), None),
        # One block holds for every part too.
        ("l.o_proj.scales", (32, 1), None),
        ("l.q_proj.scales", (1, 1), None),
        ("l.input_layernorm.weight", (32,), None),
        ("embed_tokens.weight", (100, 32), None),
    ],
)
def test_first_linears_are_cut_by_rows_and_last_ones_by_columns(
    name: str, shape: tuple[int, ...], axis: int | None
) -> None:
    assert axis_of_weight(weight(name, *shape)) == axis


def linear(columns: int, depth: int, *, group: int, rows: int = 1) -> Node:
    builder = Builder()
    x = builder.input("x", TensorType((4, depth), DType.FLOAT32))
    stored = builder.input("w", TensorType((columns, depth), DType.FLOAT8_E4M3), "weight")
    blocks = (-(-columns // rows), -(-depth // group))
    scales = builder.input("s", TensorType(blocks, DType.FLOAT32), "weight")
    return builder.add(
        "quantized_linear",
        (x, stored, scales),
        format="fp8",
        group=group,
        rows=rows,
        activation="plain",
        dtype=DType.FLOAT32,
    )


def part(*shape: int) -> Node:
    return weight("part", *shape)


def test_a_part_with_one_scale_a_row_has_a_group_of_its_own_width() -> None:
    node = linear(16, 64, group=64)
    found = linear_of_rank(node, part(16, 32), part(16, 1), by_inputs=True)
    assert found["group"] == 32
    # A scale of each row goes with its row.
    node = linear(16, 64, group=32)
    assert linear_of_rank(node, part(16, 32), part(16, 1), by_inputs=True)["group"] == 32
    assert linear_of_rank(node, part(8, 64), part(8, 2), by_inputs=False)["group"] == 32


@pytest.mark.parametrize(
    ("node", "own", "scales", "by_inputs", "reason"),
    [
        # 80 rows have two blocks of 48 and 32; halves have 40 each.
        (linear(80, 64, group=64, rows=48), (40, 64), (1, 1), False, "every 48 .* get 40"),
        (linear(16, 80, group=48), (16, 40), (16, 1), True, "every 48 .* get 40"),
    ],
)
def test_parts_that_would_share_a_scale_are_refused(
    node: Node, own: tuple[int, ...], scales: tuple[int, ...], by_inputs: bool, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        linear_of_rank(node, part(*own), part(*scales), by_inputs=by_inputs)


def test_what_does_not_divide_is_named() -> None:
    assert share(weight("l.q_proj.weight", 64, 32), 0, 4) == 16
    with pytest.raises(
        InputError, match=r"q_proj\.scales has 6 groups that share a scale, which 4"
    ):
        share(weight("l.q_proj.scales", 6, 1), 0, 4)
    with pytest.raises(InputError, match=r"q_proj\.weight has 6 rows or columns, which 4 devices"):
        share(weight("l.q_proj.weight", 6, 32), 0, 4)


def test_a_cut_goes_through_what_keeps_it() -> None:
    builder = Builder()
    x = builder.input("x", TensorType((6, 8, 4), DType.FLOAT32))
    heads = builder.input("heads", TensorType((5, 24), DType.FLOAT32)).reshape((5, 6, 4))
    assert following_axis(x.reshape((6, 32)), 0, 1, 2) == 1
    assert following_axis(x.permute((1, 0, 2)), 0, 1, 2) == 0
    assert following_axis(x.reduce("sum", (0,)), 0, 1, 2) == 0
    # Whole heads: six of them are no four equal parts.
    assert following_axis(heads, 0, 1, 4) is None
    assert following_axis(x.reduce("sum", (1,)), 0, 1, 2) is None
    assert following_axis(x.slice(1, 0, 4), 0, 1, 2) is None
    assert slice_of(x, 1, 1, 2).shape == (6, 4, 4)
