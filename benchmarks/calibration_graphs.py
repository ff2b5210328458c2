"""Small graphs of one kind of work each, whose programs tell what a device needs for it.

They go through the compiler as models do, so what is timed are the kernels that models run.
"""

from banyan.compiler.ir.cached import CacheFormat
from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType

_TOKENS = symbol("num_tokens", 1, 65_536)
_SEQUENCES = symbol("num_sequences", 1, 65_536)
_TABLE_BLOCKS = symbol("num_table_blocks", 1, 65_536)
_BLOCKS = symbol("num_blocks", 1, 2**31 - 1)


def products_graph(columns: int, depth: int, repeats: int, dtype: DType) -> Graph:
    """Rows go up to `columns` and down to `depth` again, `repeats` times."""
    builder = Builder()
    inputs = [builder.input("rows", TensorType((_TOKENS, depth), dtype))]
    value = inputs[0]
    for number in range(repeats):
        for name, shape in (("up", (columns, depth)), ("down", (depth, columns))):
            weight = builder.input(f"{number}.{name}.weight", TensorType(shape, dtype), "weight")
            inputs.append(weight)
            value = builder.add("dot", (value, weight), transpose_b=True, dtype=dtype)
    return Graph("products", tuple(inputs), (Output("rows_after", value),))


def output_graph(columns: int, depth: int, dtype: DType) -> Graph:
    """One product with as many columns as a vocabulary has words."""
    builder = Builder()
    rows = builder.input("rows", TensorType((_TOKENS, depth), dtype))
    weight = builder.input("output.weight", TensorType((columns, depth), dtype), "weight")
    value = builder.add("dot", (rows, weight), transpose_b=True, dtype=dtype).cast(DType.FLOAT32)
    return Graph("output", (rows, weight), (Output("logits", value),))


def attention_graph(
    heads: int, cache_heads: int, size: int, form: CacheFormat, repeats: int, dtype: DType
) -> Graph:
    """Attention over `repeats` caches one after the other; each answer is the next question."""
    builder = Builder()
    query = builder.input("query", TensorType((_TOKENS, heads, size), dtype))
    places = [
        builder.input("block_tables", TensorType((_SEQUENCES, _TABLE_BLOCKS), DType.INT32)),
        builder.input("query_starts", TensorType((_SEQUENCES + 1,), DType.INT32)),
        builder.input("context_lengths", TensorType((_SEQUENCES,), DType.INT32)),
    ]
    inputs, value = [query, *places], query
    for number in range(repeats):
        caches = _caches(builder, number, cache_heads, size, form)
        inputs += caches
        keys, values, *scales = caches
        arguments = (value, keys, values, *places, *scales)
        value = builder.add("paged_attention", arguments, scale=size**-0.5, window=0)
    return Graph("attention", tuple(inputs), (Output("answer", value),))


def _caches(
    builder: Builder, number: int, cache_heads: int, size: int, form: CacheFormat
) -> list[Node]:
    shapes = {
        "key_cache": (form.key_shape(cache_heads, size), form.dtype),
        "value_cache": (form.value_shape(cache_heads, size), form.dtype),
        "key_scales": (form.scale_shape(cache_heads), DType.FLOAT32),
        "value_scales": (form.scale_shape(cache_heads), DType.FLOAT32),
    }
    return [
        builder.input(f"{name}.{number}", TensorType((_BLOCKS, *shape), kind), "state")
        for name, (shape, kind) in shapes.items()
        if name in form.states
    ]


def norms_graph(width: int, repeats: int, dtype: DType) -> Graph:
    """Rows are divided by their length, `repeats` times."""
    builder = Builder()
    rows = builder.input("rows", TensorType((_TOKENS, width), dtype))
    inputs, value = [rows], rows
    for number in range(repeats):
        weight = builder.input(f"{number}.weight", TensorType((width,), dtype), "weight")
        inputs.append(weight)
        wide = value.cast(DType.FLOAT32)
        square = (wide * wide).reduce("sum", (1,), keep=True)
        scale = (square * (1.0 / width) + 1e-6).apply("rsqrt").expand((_TOKENS, width))
        value = (wide * scale).cast(dtype) * weight.expand((_TOKENS, width))
    return Graph("norms", tuple(inputs), (Output("rows_after", value),))
