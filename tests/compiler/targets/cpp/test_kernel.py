"""Text of small kernels: what a reader of generated code sees, and what decides its speed."""

from banyan.compiler.ir.cached import CACHE_FORMATS
from banyan.compiler.ir.graph import Builder, Kernel, Node, Region, scalar_type
from banyan.compiler.ir.symbols import ceil_divide, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.programs.attention_types import AttentionOptions, AttentionTypes
from banyan.compiler.programs.paged_attention import paged_attention_kernel
from banyan.compiler.targets.cpp.dialect import CPP
from banyan.compiler.targets.cpp.kernel import print_kernel

T = symbol("T", 1, 4096)
F32 = DType.FLOAT32


def number(builder: Builder, value: int) -> Node:
    return builder.add("constant", value=value, dtype=DType.INT64, space="tile")


def rotate_kernel(builder: Builder) -> Kernel:
    """y = x + rotate_half(x) on four rows of 8: a concatenation that cuts the loop in two."""
    x = builder.pointer("x", TensorType((T, 8), F32), "read")
    y = builder.pointer("y", TensorType((T, 8), F32), "write")
    item = builder.parameter(scalar_type(DType.INT64))
    start, zero = builder.add("mul", (item, number(builder, 4))), number(builder, 0)
    both = ("range", "range")
    rows = builder.add("load", (x, start, zero), index=both, sizes=(4, 8))
    left = builder.add("slice", (rows,), axis=1, start=0, stop=4, step=1)
    right = builder.add("slice", (rows,), axis=1, start=4, stop=8, step=1)
    turned = builder.add("concat", (builder.add("neg", (right,)), left), axis=1)
    store = builder.add(
        "store", (y, builder.add("add", (rows, turned)), start, zero), index=both, sizes=(4, 8)
    )
    return Kernel("rotate", (ceil_divide(T, 4),), (x, y), Region((item,), (store,), ()))


ROTATE = """\
  const call& self = *static_cast<const call*>(context);
  char* const scratch = static_cast<char*>(self.scratch[thread]);
  const float* const p0 = static_cast<const float*>(self.pointers[0]);  // x
  float* const p1 = static_cast<float*>(self.pointers[1]);  // y
  const index_t n0 = self.sizes[0];  // T
  const index_t g0 = item;
  const index_t s1 = g0 * int64_t(4);
  {
    for (index_t i0 = 0; i0 < minimum(index_t(4), index_t(n0 - s1)); ++i0) {
#pragma omp simd
      for (index_t i1 = 0; i1 < 4; ++i1) {
        const float v2 = p0[8 * s1 + 8 * i0 + i1];
        const float v3 = p0[8 * s1 + 8 * i0 + i1 + 4];
        const float v4 = -v3;
        const float v5 = v2 + v4;
        p1[8 * s1 + 8 * i0 + i1] = v5;
      }
#pragma omp simd
      for (index_t i6 = 4; i6 < 8; ++i6) {
        const float v7 = p0[8 * s1 + 8 * i0 + i6];
        const float v8 = p0[8 * s1 + 8 * i0 + i6 - 4];
        const float v9 = v7 + v8;
        p1[8 * s1 + 8 * i0 + i6] = v9;
      }
    }
  }"""


def test_a_concatenation_cuts_its_loop_and_leaves_no_branch() -> None:
    text = print_kernel(rotate_kernel(Builder()), "portable")
    assert text.body == ROTATE
    assert text.scratch_bytes == 0
    assert text.symbols == ("T",)


def linear_kernel(builder: Builder) -> Kernel:
    """y[T, 32] = x[T, 64] times packed panels, up to 16 rows and both panels to an item."""
    x = builder.pointer("x", TensorType((T, 64), F32), "read")
    w = builder.pointer("w", TensorType((2, 64, 16, 1), F32), "read")
    y = builder.pointer("y", TensorType((T, 32), F32), "write")
    item = builder.parameter(scalar_type(DType.INT64))
    start, zero = builder.add("mul", (item, number(builder, 16))), number(builder, 0)
    left = builder.add("sub", (builder.add("size", dim=T, space="tile"), start))
    rows = builder.add("min", (left, number(builder, 16)))
    bind = builder.add("bind", (rows,), name="rows", minimum=1, maximum=16)
    size = symbol("rows", 1, 16)
    both = ("range", "range")
    a = builder.add("load", (x, start, zero), index=both, sizes=(size, 64))
    panels = builder.add("load", (w, zero, zero, zero, zero), index=both * 2, sizes=(2, 64, 16, 1))
    product = builder.add("packed_dot", (a, panels), columns=32, dtype=F32)
    store = builder.add("store", (y, product, start, zero), index=both, sizes=(size, 32))
    return Kernel("linear", (ceil_divide(T, 16),), (x, w, y), Region((item,), (bind, store), ()))


def test_a_linear_reads_its_rows_and_weights_where_they_lie() -> None:
    text = print_kernel(linear_kernel(Builder()), "portable")
    assert "banyan::linear_tile_fma<float, float>(p0 + 64 * s1, 64, p1 + 0, 64, n4, 2" in text.body
    assert text.scratch_bytes == 16 * 32 * 4
    assert "memset" not in text.body


def test_equal_kernels_print_equal_texts() -> None:
    texts = [print_kernel(rotate_kernel(Builder()), "portable").body for _ in range(2)]
    assert texts[0] == texts[1]


def rounded_attention() -> str:
    """The text of attention over keys and values in int8."""
    form, heads, size = CACHE_FORMATS["int8"], 2, 16
    blocks, sequences = symbol("blocks", 1, 64), symbol("sequences", 1, 8)
    scales = TensorType((blocks, *form.scale_shape(heads)), DType.FLOAT32)
    types = AttentionTypes(
        queries=TensorType((T, 2 * heads, size), DType.BFLOAT16),
        keys=TensorType((blocks, *form.key_shape(heads, size)), form.dtype),
        values=TensorType((blocks, *form.value_shape(heads, size)), form.dtype),
        tables=TensorType((sequences, symbol("columns", 1, 64)), DType.INT32),
        starts=TensorType((sequences + 1,), DType.INT32),
        lengths=TensorType((sequences,), DType.INT32),
        key_scales=scales,
        value_scales=scales,
    )
    options = AttentionOptions(scale=0.25, window=0, value_size=size, step_blocks=16)
    return print_kernel(paged_attention_kernel(Builder(), types, options), "portable").body


def test_the_scales_of_a_step_are_asked_for_before_its_products() -> None:
    steps = rounded_attention().split("for (index_t r")[-2:]
    for step in steps:
        assert 0 <= step.find("__builtin_prefetch") < step.find("banyan::block_columns")
        assert step.count("__builtin_prefetch") == 4  # two heads, keys and values


def test_booleans_that_a_tile_keeps_are_bytes() -> None:
    text = rounded_attention()
    assert "uint8_t* const" in text
    assert "bool* const" not in text
    assert CPP.scratch("t1", DType.BOOL, 64).startswith("uint8_t* const t1 = ")
