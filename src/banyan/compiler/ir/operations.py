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
neighbours  windows{kernel, stride, dilation, border, places}(x[B,C,*L]) -> [B, C * taps, places]:
            what each place sees, tap by tap of each channel; border: zeros (low, high) of each L
            window_panels{.., shape}: the same as panels [B, N/16, K/p, 16, p] for `packed_dot`
models      attention_forward{causal, scale}(q[B,H,Tq,D], k[B,G,Tk,D], v[B,G,Tk,D'], mask?) ->
            (o[B,H,Tq,D'], lse f32[B,H,Tq]): G divides H; lse is the log of the sum of exponentials
            attention_backward{causal, scale}(do, q, k, v, o, lse, mask?) -> (dq, dk, dv)
            cache_write{layout}(cache, rows[T,H,D], slots[T]): a new cache, layout "keys"|"values"
            cache_write_quantized{layout}(cache, scales f32[blocks,H,parts,16], rows, slots) ->
            both; i8, f8e4m3 or u8 (4 bits) as in `cached`
            paged_attention{scale, window}(q[T,H,D], keys, values, tables, starts, lengths,
            key_scales?, value_scales?): a quantised cache has scales for each row of a head
            paged_latent_attention{scale, window, value_size}(q[T,H,D], keys, tables, starts,
            lengths) -> [T,H,value_size]: one head of keys, values are the first part of keys
            low_rank{columns}(x[T,K], down[S*C/16,K/p,16,p], up[S*N/16,R/p,16,p], chosen[T],
            scales f32[S,C]?) -> [T,N]: both factors of adapter chosen[t] < S, zeros for S; part i
            of N reads C at i * R, times scales if the factors are i8
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

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from banyan.compiler.ir.model_operations import MODEL_RULES
from banyan.compiler.ir.quantized import QUANTIZED_RULES
from banyan.compiler.ir.symbols import Dim, ceil_divide, product
from banyan.compiler.ir.type_rules import Call, Rule
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


def infer_type(op: str, types: tuple[ValueType, ...], attrs: Mapping[str, Any]) -> ValueType:
    """The type of `op` applied to arguments of the given types.

    Raises:
        GraphError: unknown operation, or its rule refuses the arguments.
    """
    rule = _RULES.get(op)
    if rule is None:
        raise GraphError(f"unknown operation {op!r}; the list is in compiler.ir.operations")
    try:
        return rule(Call(op, types, attrs))
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        shown = ", ".join(str(t) for t in types)
        raise GraphError(f"{op}({shown}) with {sorted(attrs)}: {error!r}") from error


def pack_width(dtype: DType) -> int:
    """How many neighbours along the contracted dim are packed side by side.

    32 bits of them, which one instruction multiplies and adds; halves are widened instead.
    """
    return 1 if dtype is DType.FLOAT16 else max(1, 4 // dtype.num_bytes)


def _unary(call: Call) -> ValueType:
    call.require(len(call.types) == 1, "takes one argument")
    return call.first


def _binary(call: Call) -> ValueType:
    call.require(len(call.types) == 2, "takes two arguments")
    a, b = call.types
    call.require(a.shape == b.shape, "shapes must be equal; use expand")
    call.require(a.dtype is b.dtype, "element types must be equal; use cast")
    return call.first


def _compare(call: Call) -> ValueType:
    _binary(call)
    return call.like(call.first.shape, DType.BOOL)


def _where(call: Call) -> ValueType:
    call.require(len(call.types) == 3 and call.first.dtype is DType.BOOL, "takes bool, a, b")
    call.require(call.first.shape == call.types[1].shape, "shapes must be equal; use expand")
    return _binary(replace(call, types=call.types[1:]))


def _cast(call: Call) -> ValueType:
    return call.like(call.first.shape, call.attrs["dtype"])


def _space(call: Call) -> Space:
    return Space(call.attrs.get("space", "tensor"))


def _constant(call: Call) -> ValueType:
    call.require(isinstance(call.attrs["value"], bool | int | float), "value must be a number")
    return TensorType((), call.attrs["dtype"], _space(call))


def _data(call: Call) -> ValueType:
    count = product(call.attrs["shape"])
    call.require(
        count == len(call.attrs["values"]), f"{len(call.attrs['values'])} values, not {count}"
    )
    return TensorType(call.attrs["shape"], call.attrs["dtype"])


def _iota(call: Call) -> ValueType:
    return TensorType((call.attrs["size"],), call.attrs["dtype"], _space(call))


def _size(call: Call) -> ValueType:
    _ = call.attrs["dim"]
    return TensorType((), DType.INT64, _space(call))


def _reshape(call: Call) -> ValueType:
    shape: tuple[Dim, ...] = call.attrs["shape"]
    call.require(product(shape) == call.first.num_elements, f"{shape} has another element count")
    return call.like(shape)


def _permute(call: Call) -> ValueType:
    order = call.attrs["order"]
    call.require(sorted(order) == list(range(call.first.rank)), f"{order} is no permutation")
    return call.like(tuple(call.first.shape[i] for i in order))


def _expand(call: Call) -> ValueType:
    shape: tuple[Dim, ...] = call.attrs["shape"]
    source = call.first.shape
    fits = len(shape) >= len(source) and all(
        have in (1, want) for have, want in zip(reversed(source), reversed(shape), strict=False)
    )
    call.require(fits, f"cannot grow to ({', '.join(str(d) for d in shape)})")
    return call.like(shape)


def _replace(shape: tuple[Dim, ...], axis: int, size: Dim) -> tuple[Dim, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _slice(call: Call) -> ValueType:
    size = ceil_divide(call.attrs["stop"] - call.attrs["start"], call.attrs["step"])
    shape = _replace(call.first.shape, call.attrs["axis"], size)
    return call.like(shape)


def _concat(call: Call) -> ValueType:
    axis, first = call.attrs["axis"], call.first
    total: Dim = 0
    for part in call.types:
        same = _replace(part.shape, axis, 0) == _replace(first.shape, axis, 0)
        call.require(same and part.dtype is first.dtype, "parts differ off the axis")
        total = total + part.shape[axis]
    return TensorType(_replace(first.shape, axis, total), first.dtype, first.space)


def _pad(call: Call) -> ValueType:
    size = call.first.shape[call.attrs["axis"]] + call.attrs["low"] + call.attrs["high"]
    _ = call.attrs["value"]
    return call.like(_replace(call.first.shape, call.attrs["axis"], size))


def _gather(call: Call) -> ValueType:
    axis, (source, index) = call.attrs["axis"], call.types
    shape = (*source.shape[:axis], *index.shape, *source.shape[axis + 1 :])
    return TensorType(shape, source.dtype, source.space)


def _take_along(call: Call) -> ValueType:
    call.require(call.first.rank == call.types[1].rank, "the index needs the rank of the source")
    return call.like(call.types[1].shape)


def _scatter(call: Call) -> ValueType:
    target, index, rows = call.types
    call.require(target.rank == rows.rank == 3, "takes [B,N,C], places and [B,M,C]")
    same = (target.shape[0], target.shape[2]) == (rows.shape[0], rows.shape[2])
    call.require(same and target.dtype is rows.dtype, "rows differ from the target")
    call.require(index.shape in (rows.shape, rows.shape[1:2]), "places are [M] or [B,M,C]")
    kinds = ("set", "add", "prod", "amax", "amin")
    call.require(call.attrs["kind"] in kinds, f"kind must be one of {kinds}")
    return call.first


def _windows(call: Call) -> ValueType:
    attrs, source = call.attrs, call.first
    rank = source.rank - 2
    names = ("kernel", "stride", "dilation", "border", "places")
    call.require(all(len(attrs[name]) == rank for name in names), "one number for each axis")
    if call.op == "window_panels":
        return call.like(attrs["shape"])
    depth, places = source.shape[1] * product(attrs["kernel"]), product(attrs["places"])
    return call.like((source.shape[0], depth, places))


def _reduce(call: Call) -> ValueType:
    kinds = ("sum", "max", "min", "prod", "argmax")
    axes = call.attrs["axes"]
    call.require(call.attrs["kind"] in kinds, f"kind must be one of {kinds}")
    call.require(all(0 <= a < call.first.rank for a in axes), f"axes {axes} out of range")
    shape = tuple(d for i, d in enumerate(call.first.shape) if i not in axes)
    return call.like(shape, DType.INT64 if call.attrs["kind"] == "argmax" else None)


def _dot(call: Call) -> ValueType:
    a, b = call.types
    dtype = call.attrs.get("dtype", DType.FLOAT32)
    call.require(a.dtype is b.dtype, "element types must be equal; use cast")
    if call.attrs.get("packed"):
        call.require(b.rank == 3 and a.rank == 2, "packed takes [M,K] and [K/p,N,p]")
        call.require(a.shape[1] == b.shape[0] * b.shape[2], "contracted sizes differ")
        return TensorType((a.shape[0], b.shape[1]), dtype, a.space)
    rows, columns = b.shape[-2:]
    if call.attrs.get("transpose_b"):
        rows, columns = columns, rows
    call.require(a.shape[-1] == rows, "contracted sizes differ")
    call.require(a.shape[:-2] == b.shape[:-2], "batch dims differ; use expand")
    return TensorType((*a.shape[:-1], columns), dtype, a.space)


def _packed_dot(call: Call) -> ValueType:
    a, panels = call.types
    call.require(a.dtype is panels.dtype, "element types must be equal; use cast")
    call.require(panels.rank >= 4 and panels.shape[-2] == PANEL_COLUMNS, "bad panels")
    same = panels.rank == 4 or panels.shape[:-4] == a.shape[:-2]
    call.require(same, "batch dims differ; use expand")
    return TensorType((*a.shape[:-1], call.attrs["columns"]), call.attrs["dtype"], a.space)


def _grouped_dot(call: Call) -> ValueType:
    x, weight, experts = call.types
    call.require(x.rank == 2 and weight.rank == 3, "takes [R,K], [E,N,K] and [R]")
    call.require(x.shape[1] == weight.shape[2], "contracted sizes differ")
    call.require(experts.shape == x.shape[:1], "one expert for each row")
    return TensorType((x.shape[0], weight.shape[1]), call.attrs["dtype"], x.space)


def _group_rows(call: Call) -> ValueType:
    starts = TensorType((call.attrs["groups"] + 1,), DType.INT32)
    return TupleType((TensorType(call.first.shape, DType.INT32), starts))


def _extern(call: Call) -> ValueType:
    _ = call.attrs["target"], call.attrs["static"]
    results: tuple[TensorType, ...] = call.attrs["types"]
    return results[0] if len(results) == 1 else TupleType(results)


def _get(call: Call) -> ValueType:
    found: TensorType = call.types[0].elements[call.attrs["index"]]
    return found


def _call(call: Call) -> ValueType:
    kernel = call.attrs["kernel"]
    given = [p for p in kernel.pointers if p.attr("access") != "write"]
    call.require(len(given) == len(call.types), f"kernel {kernel.name} takes {len(given)}")
    for pointer, argument in zip(given, call.types, strict=True):
        same = pointer.type.shape == argument.shape and pointer.type.dtype is argument.dtype
        call.require(same, f"{kernel.name}.{pointer.attr('name')} is {pointer.type}")
    return TupleType(tuple(p.type for p in kernel.pointers if p.attr("access") != "read"))


def _load(call: Call) -> ValueType:
    return TensorType(_access_shape(call, call.types[1:]), call.first.dtype, Space.TILE)


def _store(call: Call) -> ValueType:
    pointer, value, *indices = call.types
    shape = _access_shape(call, tuple(indices))
    call.require(value.shape == shape, f"the value must be {shape}")
    call.require(value.dtype is pointer.dtype, "element types must be equal; use cast")
    return NO_RESULT


def _access_shape(call: Call, indices: tuple[Any, ...]) -> tuple[Dim, ...]:
    kinds, sizes = call.attrs["index"], call.attrs["sizes"]
    alike = len(kinds) == len(indices) == len(sizes) == call.first.rank
    call.require(alike, "one index, kind and size for each dim of the pointer")
    gathered = [index.shape for kind, index in zip(kinds, indices, strict=True) if kind == "gather"]
    call.require(len(set(gathered)) <= 1, "gather indices must have one shape")
    ranges = tuple(size for kind, size in zip(kinds, sizes, strict=True) if kind == "range")
    return (*(gathered[0] if gathered else ()), *ranges)


def _loop(call: Call) -> ValueType:
    body, carried = call.attrs["body"], call.types[2:]
    inner = tuple(p.type for p in body.parameters[1:])
    results = tuple(r.type for r in body.results)
    call.require(inner == carried == results, "carried values change their type")
    _ = call.attrs["step"]
    return TupleType(carried)


def _bind(call: Call) -> ValueType:
    call.require(call.first.shape == (), "takes a scalar")
    _ = call.attrs["name"], call.attrs["minimum"], call.attrs["maximum"]
    return NO_RESULT


def _cumsum(call: Call) -> ValueType:
    _ = call.attrs["axis"]
    return call.first


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
    "windows": _windows,
    "window_panels": _windows,
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
