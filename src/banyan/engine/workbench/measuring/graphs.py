"""The graphs that are measured: layers in a chain, as a model has them, each with its own operands.

Pure. A chain keeps every layer a kernel of its own, and goes through so many operands that none is
still in a cache when its turn comes again.

Legend: M rows of activations, D numbers that go in, N that come out, T new tokens, S sequences.
"""

from dataclasses import dataclass

from banyan.compiler.ir.cached import CACHE_FORMATS
from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType

INT4_GROUP = 64
"""Weights of 4 bits that share a scale: the engine's own choice."""

_FLOATS = {"float32": DType.FLOAT32, "bfloat16": DType.BFLOAT16}
_MOST_BLOCKS = 1 << 20
_MOST_TOKENS = 1 << 16


def activation_dtype(name: str) -> DType:
    """The element type of what goes through layers: float32 for float32, else bfloat16."""
    return _FLOATS.get(name, DType.BFLOAT16)


@dataclass(frozen=True, slots=True)
class LinearChain:
    """Pairs of linear layers: D to N, then N to D.

    Attributes:
        weights: "float32", "bfloat16", "int8" or "int4".
        depth: D.
        columns: N.
        pairs: how many.
    """

    weights: str
    depth: int
    columns: int
    pairs: int

    @property
    def group(self) -> int:
        """Weights that share a scale; 0 where there is none."""
        return {"int8": self.depth, "int4": INT4_GROUP}.get(self.weights, 0)

    def graph(self, most_rows: int) -> Graph:
        """x [M, D] -> out [M, D]; weights are named "up.0", "down.0", "up.0.scales", ..."""
        builder, dtype = Builder(), activation_dtype(self.weights)
        x = builder.input("x", TensorType((symbol("rows", 1, most_rows), self.depth), dtype))
        inputs, value = [x], x
        for i in range(self.pairs):
            for name, columns in ((f"up.{i}", self.columns), (f"down.{i}", self.depth)):
                value, added = _linear(builder, value, name, columns, self.weights)
                inputs += added
        return Graph("linear_chain", tuple(inputs), (Output("out", value),))


def _linear(
    builder: Builder, x: Node, name: str, columns: int, weights: str
) -> tuple[Node, list[Node]]:
    """One layer without a bias, and its inputs."""
    depth = x.shape[-1]
    assert isinstance(depth, int)
    if weights in _FLOATS:
        weight = builder.input(name, TensorType((columns, depth), _FLOATS[weights]), "weight")
        return builder.add("dot", (x, weight), transpose_b=True, dtype=x.dtype), [weight]
    group, width, dtype, activation = (
        (depth, depth, DType.INT8, "int8")
        if weights == "int8"
        else (INT4_GROUP, depth // 2, DType.UINT8, "plain")
    )
    weight = builder.input(name, TensorType((columns, width), dtype), "weight")
    scale_type = TensorType((columns, depth // group), DType.FLOAT32)
    scales = builder.input(f"{name}.scales", scale_type, "weight")
    node = builder.add(
        "quantized_linear",
        (x, weight, scales),
        format=weights,
        group=group,
        rows=1,
        activation=activation,
        dtype=x.dtype,
    )
    return node, [weight, scales]


@dataclass(frozen=True, slots=True)
class AttentionChain:
    """Layers of attention over caches of their own; what one gives is what the next asks.

    Attributes:
        cache: a name of `ir.cached`.
        query_heads: for each head of keys.
        key_heads: heads of keys and values.
        head_size: numbers of a head.
        layers: how many.
    """

    cache: str
    query_heads: int
    key_heads: int
    head_size: int
    layers: int

    @property
    def token_bytes(self) -> int:
        """Bytes that one token takes in the cache of one layer, scales included."""
        return 2 * self.key_heads * CACHE_FORMATS[self.cache].row_bytes(self.head_size)

    def graph(self) -> Graph:
        """queries [T, heads, size] -> out; states "keys.0", "values.0", "key_scales.0", ..."""
        builder, form = Builder(), CACHE_FORMATS[self.cache]
        tokens = symbol("tokens", 1, _MOST_TOKENS)
        shape = (tokens, self.query_heads * self.key_heads, self.head_size)
        queries = builder.input("queries", TensorType(shape, activation_dtype(self.cache)))
        where = _where(builder)
        blocks = symbol("num_blocks", 1, _MOST_BLOCKS)
        scale = TensorType((blocks, *form.scale_shape(self.key_heads)), DType.FLOAT32)
        inputs, value = [queries, *where], queries
        for layer in range(self.layers):
            kinds = {
                f"keys.{layer}": form.key_shape(self.key_heads, self.head_size),
                f"values.{layer}": form.value_shape(self.key_heads, self.head_size),
            }
            caches = [
                builder.input(name, TensorType((blocks, *kind), form.dtype), "state")
                for name, kind in kinds.items()
            ]
            names = (f"key_scales.{layer}", f"value_scales.{layer}") if form.parts else ()
            scales = [builder.input(name, scale, "state") for name in names]
            arguments = (value, *caches, *where, *scales)
            factor = self.head_size**-0.5
            value = builder.add("paged_attention", arguments, scale=factor, window=0)
            inputs += [*caches, *scales]
        return Graph("attention_chain", tuple(inputs), (Output("out", value),))


def _where(builder: Builder) -> list[Node]:
    """Block tables, where the queries of each sequence start, and lengths."""
    sequences = symbol("sequences", 1, _MOST_TOKENS)
    columns = symbol("columns", 1, _MOST_TOKENS)
    return [
        builder.input("tables", TensorType((sequences, columns), DType.INT32)),
        builder.input("starts", TensorType((sequences + 1,), DType.INT32)),
        builder.input("lengths", TensorType((sequences,), DType.INT32)),
    ]


@dataclass(frozen=True, slots=True)
class NormChain:
    """Residual sums and RMS norms one after the other, over rows that stay in the caches.

    Attributes:
        activations: "float32" or "bfloat16".
        width: numbers of a row.
        layers: how many.
    """

    activations: str
    width: int
    layers: int

    def graph(self, most_rows: int) -> Graph:
        """x [M, width] and y alike -> out; weights are named "norm.0", ..."""
        builder, dtype = Builder(), _FLOATS[self.activations]
        kind = TensorType((symbol("rows", 1, most_rows), self.width), dtype)
        x, y = builder.input("x", kind), builder.input("y", kind)
        inputs, value = [x, y], x
        for layer in range(self.layers):
            weight = builder.input(f"norm.{layer}", TensorType((self.width,), dtype), "weight")
            inputs.append(weight)
            value = _norm(value + y, weight, self.width)
        return Graph("norm_chain", tuple(inputs), (Output("out", value),))


def _norm(x: Node, weight: Node, width: int) -> Node:
    wide = x.cast(DType.FLOAT32)
    mean = (wide * wide).reduce("sum", (1,), keep=True) / float(width)
    scaled = wide * (mean + 1e-6).apply("rsqrt")
    return scaled.cast(x.dtype) * weight
