"""Graphs of what models are made of: linear layers in every format, attention, caches, experts.

Sizes are odd on purpose: what is not a whole tile, a whole block of the cache or a whole group.
"""

from collections.abc import Iterator

import numpy as np

from banyan.compiler.ir.cached import CACHE_BLOCK, CACHE_FORMATS
from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.engine.workbench.conformance.checks import Array
from banyan.engine.workbench.conformance.graph_case import Draw, GraphCase
from banyan.engine.workbench.conformance.operators import FLOATS, N

LINEAR_SHAPES = ((1, 1), (17, 5), (65, 33), (128, 96))
"""(K, N) of linear layers."""

QUANTIZED = (
    ("int8", 64, "plain"),
    ("int8", 64, "int8"),
    ("int4", 32, "plain"),
    ("int4", 32, "int8"),
    ("fp8", 64, "plain"),
)
"""Format, group and what is done to activations."""

_DEPTH, _COLUMNS, _EXPERTS = 64, 20, 4
_KEY_HEADS, _HEAD_SIZE, _BLOCKS, _SEQUENCES = 2, 16, 24, 3
_STORED = {"int8": DType.INT8, "int4": DType.UINT8, "fp8": DType.FLOAT8_E4M3}


def model_cases() -> Iterator[GraphCase]:
    """Every kind of layer."""
    for dtype in FLOATS:
        for depth, columns in LINEAR_SHAPES:
            yield linear_case(dtype, depth, columns)
        yield batched_case(dtype)
        yield norm_case(dtype)
        yield experts_case(dtype)
        yield attention_case(dtype)
    for layout, group, activation in QUANTIZED:
        yield quantized_case(layout, group, activation)
    for form in CACHE_FORMATS:
        yield paged_case(form)


def linear_case(dtype: DType, depth: int, columns: int) -> GraphCase:
    """A linear layer with a bias."""
    builder = Builder()
    x = builder.input("x", TensorType((N, depth), dtype))
    weight = builder.input("weight", TensorType((columns, depth), dtype), "weight")
    bias = builder.input("bias", TensorType((columns,), dtype), "weight")
    node = builder.add("dot", (x, weight), transpose_b=True, dtype=dtype) + bias
    graph = Graph("linear", (x, weight, bias), (Output("out", node),))
    return _models(f"linear {depth} x {columns} {dtype.value}", graph)


def batched_case(dtype: DType) -> GraphCase:
    """Products of matrices that are both arguments."""
    builder = Builder()
    x = builder.input("x", TensorType((3, N, 10), dtype))
    y = builder.input("y", TensorType((3, 10, 9), dtype))
    node = builder.add("dot", (x, y), dtype=DType.FLOAT32)
    return _models(f"product {dtype.value}", Graph("product", (x, y), (Output("out", node),)))


def norm_case(dtype: DType) -> GraphCase:
    """A residual sum and an RMS norm."""
    builder = Builder()
    kind = TensorType((N, 65), dtype)
    x, y = builder.input("x", kind), builder.input("y", kind)
    weight = builder.input("weight", TensorType((65,), dtype), "weight")
    wide = (x + y).cast(DType.FLOAT32)
    mean = (wide * wide).reduce("sum", (1,), keep=True) / 65.0
    node = (wide * (mean + 1e-6).apply("rsqrt")).cast(dtype) * weight
    graph = Graph("norm", (x, y, weight), (Output("out", node),))
    return _models(f"norm {dtype.value}", graph)


def experts_case(dtype: DType) -> GraphCase:
    """Each row is multiplied by the matrix of its expert; one expert has no rows."""
    builder = Builder()
    x = builder.input("x", TensorType((N, _DEPTH), dtype))
    shape = (_EXPERTS, _COLUMNS, _DEPTH)
    weight = builder.input("weight", TensorType(shape, dtype), "weight")
    chosen = builder.input("experts", TensorType((N,), DType.INT64))
    node = builder.add("grouped_dot", (x, weight, chosen), dtype=dtype)
    graph = Graph("experts", (x, weight, chosen), (Output("out", node),))
    draws = (("experts", lambda random, shape: random.integers(0, _EXPERTS - 1, shape)),)
    return _models(f"experts {dtype.value}", graph, draws=draws)


def attention_case(dtype: DType) -> GraphCase:
    """Causal attention of a whole text, four heads over two of keys."""
    builder = Builder()
    heads = {"queries": 4, "keys": 2, "values": 2}
    inputs = tuple(
        builder.input(name, TensorType((1, count, N, _HEAD_SIZE), dtype))
        for name, count in heads.items()
    )
    node = builder.add("attention_forward", inputs, causal=True, scale=0.25)
    outputs = tuple(
        Output(name, node.apply("get", index=i)) for i, name in enumerate(("out", "lse"))
    )
    return _models(f"attention {dtype.value}", Graph("attention", inputs, outputs))


def quantized_case(layout: str, group: int, activation: str) -> GraphCase:
    """A linear layer whose weights have 8 or 4 bits."""
    builder = Builder()
    width = _DEPTH // 2 if layout == "int4" else _DEPTH
    x = builder.input("x", TensorType((N, _DEPTH), DType.BFLOAT16))
    weight_type = TensorType((_COLUMNS, width), _STORED[layout])
    weight = builder.input("weight", weight_type, "weight")
    scale_type = TensorType((_COLUMNS, _DEPTH // group), DType.FLOAT32)
    scales = builder.input("scales", scale_type, "weight")
    node = builder.add(
        "quantized_linear",
        (x, weight, scales),
        format=layout,
        group=group,
        rows=1,
        activation=activation,
        dtype=DType.BFLOAT16,
    )
    graph = Graph("quantized", (x, weight, scales), (Output("out", node),))
    draws: list[tuple[str, Draw]] = [("scales", lambda random, s: random.uniform(0.001, 0.01, s))]
    if layout != "fp8":
        least, most = (-127, 128) if layout == "int8" else (0, 256)
        draws.append(("weight", lambda random, shape: random.integers(least, most, shape)))
    return _models(f"{layout} linear, {activation} activations", graph, draws=tuple(draws))


def paged_case(form_name: str) -> GraphCase:
    """New keys and values go into a paged cache, then queries of three sequences read it.

    The first sequence has n new tokens, the others one each, behind contexts of other lengths.
    """
    form, builder = CACHE_FORMATS[form_name], Builder()
    dtype = DType.FLOAT32 if form_name == "float32" else DType.BFLOAT16
    tokens = N + (_SEQUENCES - 1)
    queries = builder.input("queries", TensorType((tokens, 2 * _KEY_HEADS, _HEAD_SIZE), dtype))
    columns = symbol("columns", 1, _BLOCKS)
    where = (
        builder.input("tables", TensorType((_SEQUENCES, columns), DType.INT32)),
        builder.input("starts", TensorType((_SEQUENCES + 1,), DType.INT32)),
        builder.input("lengths", TensorType((_SEQUENCES,), DType.INT32)),
    )
    slots = builder.input("slots", TensorType((tokens,), DType.INT64))
    inputs: list[Node] = [queries, *where, slots]
    outputs: list[Output] = []
    caches: list[Node] = []
    scales: list[Node] = []
    shapes = {
        "keys": form.key_shape(_KEY_HEADS, _HEAD_SIZE),
        "values": form.value_shape(_KEY_HEADS, _HEAD_SIZE),
    }
    for layout, shape in shapes.items():
        rows = builder.input(f"new {layout}", TensorType((tokens, _KEY_HEADS, _HEAD_SIZE), dtype))
        cache = builder.input(layout, TensorType((_BLOCKS, *shape), form.dtype), "state")
        inputs += [rows, cache]
        if not form.parts:
            written = [builder.add("cache_write", (cache, rows, slots), layout=layout)]
        else:
            kind = TensorType((_BLOCKS, *form.scale_shape(_KEY_HEADS)), DType.FLOAT32)
            beside = builder.input(f"{layout} scales", kind, "state")
            inputs.append(beside)
            both = builder.add("cache_write_quantized", (cache, beside, rows, slots), layout=layout)
            written = [both.apply("get", index=i) for i in range(2)]
            scales.append(written[1])
            outputs.append(Output(f"{layout} scales written", written[1], f"{layout} scales"))
        caches.append(written[0])
        outputs.append(Output(f"{layout} written", written[0], layout))
    read = builder.add("paged_attention", (queries, *caches, *where, *scales), scale=0.25, window=0)
    graph = Graph("paged", tuple(inputs), (Output("out", read), *outputs))
    scale: Draw = lambda random, shape: random.uniform(0.01, 0.1, shape)  # noqa: E731
    return GraphCase(
        f"paged attention, {form_name} cache",
        graph,
        draws=tuple((f"{layout} scales", scale) for layout in shapes),
        given=paged_arrays,
        area="models",
    )


def paged_arrays(size: int) -> dict[str, Array]:
    """Where the tokens of the step lie: sequences of `size`, 20 and 1 tokens, one block apart."""
    lengths = np.array([size, 20, 1], np.int32)
    columns = max(-(-int(length) // CACHE_BLOCK) for length in lengths)
    tables = np.zeros((_SEQUENCES, columns), np.int32)
    free = iter(range(_BLOCKS - 1, -1, -1))
    for row, length in enumerate(lengths):
        for column in range(-(-int(length) // CACHE_BLOCK)):
            tables[row, column] = next(free)
    new = [size, 1, 1]
    places = [
        (sequence, int(length) - count + i)
        for sequence, (length, count) in enumerate(zip(lengths, new, strict=True))
        for i in range(count)
    ]
    slots = [int(tables[s, p // CACHE_BLOCK]) * CACHE_BLOCK + p % CACHE_BLOCK for s, p in places]
    return {
        "tables": tables,
        "starts": np.cumsum([0, *new]).astype(np.int32),
        "lengths": lengths,
        "slots": np.array(slots, np.int64),
    }


def _models(name: str, graph: Graph, draws: tuple[tuple[str, Draw], ...] = ()) -> GraphCase:
    return GraphCase(name, graph, draws=draws, area="models")
