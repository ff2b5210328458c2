"""The closed list of operations: for each, how many arguments and which type comes out.

The same operations are legal on whole tensors and on tiles; those under "kernel only" need a
pointer or a region. Shapes must agree exactly: there is no silent broadcast, `expand` says it.
Legend: B batch dims, M rows, K contracted, N columns, R rows of a group, E experts, T tokens,
S sequences, H heads, D head dim, p elements packed side by side (2 for 16-bit types, 1 for f32).

pointwise   neg abs exp log sqrt rsqrt tanh erf sin cos sigmoid floor not | add sub mul div
            floordiv mod min max pow and or xor | eq ne lt le gt ge | where(c, a, b) | cast{dtype}
leaves      constant{value, dtype, space} data{values, shape, dtype} iota{size, dtype, space}
            size{dim}: the number a symbolic size has, i64 scalar (tile space)
shape       reshape{shape} permute{order} expand{shape}: size-1 or missing leading dims grow
            slice{axis, start, stop, step} concat{axis} pad{axis, low, high, value}
index       gather{axis}(x, i): x[..., i, ...]   take_along{axis}(x, i): i has x's rank
            scatter{kind}(x[B,N,C], i[M] or i[B,M,C], rows[B,M,C]): x with the rows at places i of
            N, in order, each by kind "set" "add" "prod" "amax" "amin"; no place, no writing
reduce      reduce{axes, kind}: sum max min prod argmax (i64, first wins); axes disappear
            cumsum{axis}
contract    dot{transpose_b, dtype}(a[B,M,K], b[B,K,N]); sums in f32
            dot{packed}(a[M,K], b[K/p,N,p])            packed_dot{columns, dtype}(a[..,K],
            w[B?,N/16,K/p,16,p]) -> [.., columns]      grouped_dot{dtype}(x[R,K], w[E,N,K], e[R])
            group_rows{groups}(e[R]) -> (order i32[R], starts i32[E+1]): stable counting sort
quantised   unpack{bits}: u8[..., K/2] -> u8[..., K], two values of 4 bits a byte, low first
            quantized_linear{format, group, activation, dtype, rows}(x[..., K], weight, scales,
            zeros?): x times the transpose of (weight - zeros) * scales; see `quantized`
            quantize_rows{group}(x[.., K]) -> i8[.., row bytes]
            quantized_dot{format, group, activation, depth, columns, dtype}(x, lines u8[N/64, L,
            256], scales f32[N/64, G, 64], zeros? u8[N/64, G, 64]) -> [.., columns]
models      attention_forward{causal, scale}(q[B,H,Tq,D], k[B,G,Tk,D], v[B,G,Tk,D'], mask?) ->
            (o[B,H,Tq,D'], lse f32[B,H,Tq]): G divides H; lse is the log of the sum of exponentials
            attention_backward{causal, scale}(do, q, k, v, o, lse, mask?) -> (dq, dk, dv)
            cache_write{layout}(cache, rows[T,H,D], slots[T]): a new cache, layout "keys"|"values"
            cache_write_quantized{layout}(cache i8, scales f32[blocks,H,16], rows, slots) -> both
            paged_attention{scale, window}(q[T,H,D], keys, values, tables, starts, lengths,
            key_scales?, value_scales?): an int8 cache has a scale for each row of a head
            paged_latent_attention{scale, window, value_size}(q[T,H,D], keys, tables, starts,
            lengths) -> [T,H,value_size]: one head of keys, values are the first part of keys
escape      extern{target, static, types, reason}(...): calls the framework    get{index}(tuple)
kernel      call{kernel}(...) -> its written pointers in order
kernel only load{index, sizes}(pointer, i...)  store{index, sizes}(pointer, value, i...)
            loop{step, body}(start, stop, carried...)  bind{name, minimum, maximum}(n): inside this
            kernel the symbol `name` has the value n

`load` and `store` give each dim of the pointer one index and one kind: "at" a scalar (the dim
disappears), "range" a scalar start (the dim keeps `sizes[dim]` elements), "gather" an integer tile
of shape [n]; all gather dims move together and come first. Elements outside the tensor are read
as 0 and never written.
"""

from typing import Any

from banyan.compiler.ir.model_operations import MODEL_RULES
from banyan.compiler.ir.quantized import QUANTIZED_RULES
from banyan.compiler.ir.symbols import Dim, ceil_divide, product
from banyan.compiler.ir.type_rules import Attributes, Rule, Types, require
from banyan.compiler.ir.types import DType, Space, TensorType, TupleType, ValueType
from banyan.foundation.errors import GraphError

PANEL_COLUMNS = 16
"""Columns of one packed weight panel, and tokens of one cache block."""

UNARY = frozenset("neg abs exp log sqrt rsqrt tanh erf sin cos sigmoid floor not".split())
BINARY = frozenset("add sub mul div floordiv mod min max pow and or xor".split())
COMPARE = frozenset("eq ne lt le gt ge".split())
POINTWISE = UNARY | BINARY | COMPARE | {"where", "cast"}
EFFECTS = frozenset({"store", "bind"})
NO_RESULT = TupleType(())


def infer_type(op: str, types: Types, attrs: Attributes) -> ValueType:
    """The type of `op` applied to arguments of the given types.

    Raises:
        GraphError: unknown operation, or its rule refuses the arguments.
    """
    rule = _RULES.get(op)
    if rule is None:
        raise GraphError(f"unknown operation {op!r}; the list is in compiler.ir.operations")
    try:
        return rule(op, types, attrs)
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        shown = ", ".join(str(t) for t in types)
        raise GraphError(f"{op}({shown}) with {sorted(attrs)}: {error!r}") from error


def pack_width(dtype: DType) -> int:
    """How many neighbours along the contracted dim are packed side by side.

    32 bits of them, which one instruction multiplies and adds; halves are widened instead.
    """
    return 1 if dtype is DType.FLOAT16 else max(1, 4 // dtype.num_bytes)


def _unary(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    require(len(types) == 1, op, types, "takes one argument")
    return types[0]  # type: ignore[no-any-return]


def _binary(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    require(len(types) == 2, op, types, "takes two arguments")
    require(types[0].shape == types[1].shape, op, types, "shapes must be equal; use expand")
    require(types[0].dtype is types[1].dtype, op, types, "element types must be equal; use cast")
    return types[0]  # type: ignore[no-any-return]


def _compare(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    _binary(op, types, attrs)
    return TensorType(types[0].shape, DType.BOOL, types[0].space)


def _where(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    require(len(types) == 3 and types[0].dtype is DType.BOOL, op, types, "takes bool, a, b")
    require(types[0].shape == types[1].shape, op, types, "shapes must be equal; use expand")
    return _binary(op, types[1:], attrs)


def _cast(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    return TensorType(types[0].shape, attrs["dtype"], types[0].space)


def _space(attrs: Attributes) -> Space:
    return Space(attrs.get("space", "tensor"))


def _constant(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    require(isinstance(attrs["value"], bool | int | float), op, types, "value must be a number")
    return TensorType((), attrs["dtype"], _space(attrs))


def _data(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    count = product(attrs["shape"])
    require(count == len(attrs["values"]), op, types, f"{len(attrs['values'])} values, not {count}")
    return TensorType(attrs["shape"], attrs["dtype"])


def _iota(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    return TensorType((attrs["size"],), attrs["dtype"], _space(attrs))


def _size(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    _ = attrs["dim"]
    return TensorType((), DType.INT64, _space(attrs))


def _reshape(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    shape: tuple[Dim, ...] = attrs["shape"]
    require(
        product(shape) == types[0].num_elements, op, types, f"{shape} has another element count"
    )
    return TensorType(shape, types[0].dtype, types[0].space)


def _permute(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    order = attrs["order"]
    require(sorted(order) == list(range(types[0].rank)), op, types, f"{order} is no permutation")
    return TensorType(tuple(types[0].shape[i] for i in order), types[0].dtype, types[0].space)


def _expand(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    shape: tuple[Dim, ...] = attrs["shape"]
    source = types[0].shape
    fits = len(shape) >= len(source) and all(
        have in (1, want) for have, want in zip(reversed(source), reversed(shape), strict=False)
    )
    require(fits, op, types, f"cannot grow to ({', '.join(str(d) for d in shape)})")
    return TensorType(shape, types[0].dtype, types[0].space)


def _replace(shape: tuple[Dim, ...], axis: int, size: Dim) -> tuple[Dim, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _slice(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    size = ceil_divide(attrs["stop"] - attrs["start"], attrs["step"])
    shape = _replace(types[0].shape, attrs["axis"], size)
    return TensorType(shape, types[0].dtype, types[0].space)


def _concat(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    axis, first = attrs["axis"], types[0]
    total: Dim = 0
    for part in types:
        same = _replace(part.shape, axis, 0) == _replace(first.shape, axis, 0)
        require(same and part.dtype is first.dtype, op, types, "parts differ off the axis")
        total = total + part.shape[axis]
    return TensorType(_replace(first.shape, axis, total), first.dtype, first.space)


def _pad(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    size = types[0].shape[attrs["axis"]] + attrs["low"] + attrs["high"]
    _ = attrs["value"]
    return TensorType(_replace(types[0].shape, attrs["axis"], size), types[0].dtype, types[0].space)


def _gather(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    axis, (source, index) = attrs["axis"], types
    shape = (*source.shape[:axis], *index.shape, *source.shape[axis + 1 :])
    return TensorType(shape, source.dtype, source.space)


def _take_along(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    require(types[0].rank == types[1].rank, op, types, "the index needs the rank of the source")
    return TensorType(types[1].shape, types[0].dtype, types[0].space)


def _scatter(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    target, index, rows = types
    require(target.rank == rows.rank == 3, op, types, "takes [B,N,C], places and [B,M,C]")
    same = (target.shape[0], target.shape[2]) == (rows.shape[0], rows.shape[2])
    require(same and target.dtype is rows.dtype, op, types, "rows differ from the target")
    require(index.shape in (rows.shape, rows.shape[1:2]), op, types, "places are [M] or [B,M,C]")
    kinds = ("set", "add", "prod", "amax", "amin")
    require(attrs["kind"] in kinds, op, types, f"kind must be one of {kinds}")
    return target  # type: ignore[no-any-return]


def _reduce(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    kinds = ("sum", "max", "min", "prod", "argmax")
    axes = attrs["axes"]
    require(attrs["kind"] in kinds, op, types, f"kind must be one of {kinds}")
    require(all(0 <= a < types[0].rank for a in axes), op, types, f"axes {axes} out of range")
    shape = tuple(d for i, d in enumerate(types[0].shape) if i not in axes)
    dtype = DType.INT64 if attrs["kind"] == "argmax" else types[0].dtype
    return TensorType(shape, dtype, types[0].space)


def _dot(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    a, b = types
    dtype = attrs.get("dtype", DType.FLOAT32)
    require(a.dtype is b.dtype, op, types, "element types must be equal; use cast")
    if attrs.get("packed"):
        require(b.rank == 3 and a.rank == 2, op, types, "packed takes [M,K] and [K/p,N,p]")
        require(a.shape[1] == b.shape[0] * b.shape[2], op, types, "contracted sizes differ")
        return TensorType((a.shape[0], b.shape[1]), dtype, a.space)
    rows, columns = b.shape[-2:]
    if attrs.get("transpose_b"):
        rows, columns = columns, rows
    require(a.shape[-1] == rows, op, types, "contracted sizes differ")
    require(a.shape[:-2] == b.shape[:-2], op, types, "batch dims differ; use expand")
    return TensorType((*a.shape[:-1], columns), dtype, a.space)


def _packed_dot(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    a, panels = types
    require(a.dtype is panels.dtype, op, types, "element types must be equal; use cast")
    require(panels.rank >= 4 and panels.shape[-2] == PANEL_COLUMNS, op, types, "bad panels")
    same = panels.rank == 4 or panels.shape[:-4] == a.shape[:-2]
    require(same, op, types, "batch dims differ; use expand")
    return TensorType((*a.shape[:-1], attrs["columns"]), attrs["dtype"], a.space)


def _grouped_dot(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    x, weight, experts = types
    require(x.rank == 2 and weight.rank == 3, op, types, "takes [R,K], [E,N,K] and [R]")
    require(x.shape[1] == weight.shape[2], op, types, "contracted sizes differ")
    require(experts.shape == x.shape[:1], op, types, "one expert for each row")
    return TensorType((x.shape[0], weight.shape[1]), attrs["dtype"], x.space)


def _group_rows(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    starts = TensorType((attrs["groups"] + 1,), DType.INT32)
    return TupleType((TensorType(types[0].shape, DType.INT32), starts))


def _extern(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    _ = attrs["target"], attrs["static"]
    results: tuple[TensorType, ...] = attrs["types"]
    return results[0] if len(results) == 1 else TupleType(results)


def _get(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    return types[0].elements[attrs["index"]]  # type: ignore[no-any-return]


def _call(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    kernel = attrs["kernel"]
    given = [p for p in kernel.pointers if p.attr("access") != "write"]
    require(len(given) == len(types), op, types, f"kernel {kernel.name} takes {len(given)}")
    for pointer, argument in zip(given, types, strict=True):
        same = pointer.type.shape == argument.shape and pointer.type.dtype is argument.dtype
        require(same, op, types, f"{kernel.name}.{pointer.attr('name')} is {pointer.type}")
    return TupleType(tuple(p.type for p in kernel.pointers if p.attr("access") != "read"))


def _load(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    return TensorType(_access_shape(op, types[0], types[1:], attrs), types[0].dtype, Space.TILE)


def _store(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    shape = _access_shape(op, types[0], types[2:], attrs)
    require(types[1].shape == shape, op, types, f"the value must be {shape}")
    require(types[1].dtype is types[0].dtype, op, types, "element types must be equal; use cast")
    return NO_RESULT


def _access_shape(
    op: str, pointer: TensorType, indices: tuple[Any, ...], attrs: Attributes
) -> tuple[Dim, ...]:
    kinds = attrs["index"]
    sizes = attrs["sizes"]
    require(
        len(kinds) == len(indices) == len(sizes) == pointer.rank,
        op,
        (pointer, *indices),
        "one index, kind and size for each dim of the pointer",
    )
    gathered = [index.shape for kind, index in zip(kinds, indices, strict=True) if kind == "gather"]
    require(len(set(gathered)) <= 1, op, indices, "gather indices must have one shape")
    ranges = tuple(size for kind, size in zip(kinds, sizes, strict=True) if kind == "range")
    return (*(gathered[0] if gathered else ()), *ranges)


def _loop(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    body, carried = attrs["body"], types[2:]
    inner = tuple(p.type for p in body.parameters[1:])
    results = tuple(r.type for r in body.results)
    require(inner == carried == results, op, types, "carried values change their type")
    _ = attrs["step"]
    return TupleType(carried)


def _bind(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    require(types[0].shape == (), op, types, "takes a scalar")
    _ = attrs["name"], attrs["minimum"], attrs["maximum"]
    return NO_RESULT


def _cumsum(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    _ = attrs["axis"]
    return types[0]  # type: ignore[no-any-return]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(COMPARE, _compare),
    "where": _where,
    "cast": _cast,
    "constant": _constant,
    "data": _data,
    "iota": _iota,
    "size": _size,
    "reshape": _reshape,
    "permute": _permute,
    "expand": _expand,
    "slice": _slice,
    "concat": _concat,
    "pad": _pad,
    "gather": _gather,
    "take_along": _take_along,
    "scatter": _scatter,
    "reduce": _reduce,
    "cumsum": _cumsum,
    "dot": _dot,
    "packed_dot": _packed_dot,
    "grouped_dot": _grouped_dot,
    "group_rows": _group_rows,
    **QUANTIZED_RULES,
    **MODEL_RULES,
    "extern": _extern,
    "get": _get,
    "call": _call,
    "load": _load,
    "store": _store,
    "loop": _loop,
    "bind": _bind,
}

OPERATIONS = frozenset(_RULES) | {"input", "pointer", "parameter"}
"""Every name an operation may have."""
