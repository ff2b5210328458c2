"""Operations that have a program of their own become calls of its kernel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from banyan.compiler.ir.attributes import integers
from banyan.compiler.ir.graph import Builder, Kernel, Node
from banyan.compiler.ir.packing import stored_weight
from banyan.compiler.ir.types import TensorType
from banyan.compiler.programs.cache_write import (
    cache_write_kernel,
    cache_write_quantized_kernel,
)
from banyan.compiler.programs.grouped_linear import (
    GroupedLinear,
    group_rows_kernel,
    grouped_linear_kernel,
)
from banyan.compiler.programs.paged_attention import (
    AttentionOptions,
    AttentionTypes,
    paged_attention_kernel,
)
from banyan.compiler.programs.running_softmax import fixed
from banyan.compiler.programs.turning import turn_kernel, turns
from banyan.compiler.programs.whole_attention import (
    WholeAttention,
    pack_kernel,
    whole_attention_kernel,
)
from banyan.compiler.tiling.options import TileOptions

Once: TypeAlias = Callable[[tuple[object, ...], Callable[[], Kernel]], Kernel]


@dataclass(frozen=True, slots=True)
class Context:
    """What lowering offers: the builder, the kernels made so far, and where values lie."""

    builder: Builder
    once: Once
    value: Callable[[Node], Node]
    options: TileOptions
    is_memory: Callable[[Node], bool]


def lower_program(context: Context, node: Node) -> Node | None:
    """The call that replaces `node`, or None when no program is written for it."""
    lowering = _PROGRAMS.get(node.op)
    return None if lowering is None else lowering(context, node)


def _call(context: Context, kernel: Kernel, arguments: list[Node]) -> Node:
    return context.builder.add("call", arguments, kernel=kernel)


def _first(context: Context, call: Node) -> Node:
    return context.builder.add("get", (call,), index=0)


def _cache_write(context: Context, node: Node) -> Node:
    types = [arg.tensor for arg in node.args]
    layout = str(node.attr("layout"))
    kernel = context.once(
        ("cache_write", layout, *types),
        lambda: cache_write_kernel(context.builder, types[0], types[1], types[2], layout),
    )
    return _first(context, _call(context, kernel, [context.value(arg) for arg in node.args]))


def _cache_write_quantized(context: Context, node: Node) -> Node:
    types = tuple(arg.tensor for arg in node.args)
    layout = str(node.attr("layout"))
    kernel = context.once(
        ("cache_write_quantized", layout, types),
        lambda: cache_write_quantized_kernel(context.builder, types, layout),
    )
    return _call(context, kernel, [context.value(arg) for arg in node.args])


def _paged_attention(context: Context, node: Node) -> Node:
    kinds = [arg.tensor for arg in node.args]
    if node.op == "paged_latent_attention":
        types = AttentionTypes(kinds[0], kinds[1], None, *kinds[2:])
    else:
        types = AttentionTypes(*kinds)
    attrs: dict[str, Any] = dict(node.attrs)
    size = node.shape[2]
    options = AttentionOptions(float(attrs["scale"]), int(attrs["window"]), fixed(size))
    kernel = context.once(
        ("paged_attention", types, options),
        lambda: paged_attention_kernel(context.builder, types, options),
    )
    return _first(context, _call(context, kernel, [context.value(arg) for arg in node.args]))


def _attention_forward(context: Context, node: Node) -> Node:
    queries, keys, values, *mask = node.args
    attrs: dict[str, Any] = dict(node.attrs)
    types = WholeAttention(
        queries.tensor,
        keys.tensor,
        values.tensor,
        mask[0].tensor if mask else None,
        bool(attrs["causal"]),
        float(attrs["scale"]),
    )
    packed = [_packed(context, keys, "keys"), _packed(context, values, "values")]
    kernel = context.once(
        ("whole_attention", types), lambda: whole_attention_kernel(context.builder, types)
    )
    arguments = [context.value(queries), *packed, *map(context.value, mask)]
    return _call(context, kernel, arguments)


def _packed(context: Context, rows: Node, layout: str) -> Node:
    kind = rows.tensor
    kernel = context.once(
        ("pack", kind, layout), lambda: pack_kernel(context.builder, kind, layout)
    )
    return _first(context, _call(context, kernel, [context.value(rows)]))


def _grouped_dot(context: Context, node: Node) -> Node:
    rows, weight, experts = node.args
    stored = stored_weight(weight)
    groups, columns = weight.shape[0], weight.shape[1]
    if not isinstance(groups, int) or not isinstance(columns, int):
        raise TypeError("expert weights have fixed sizes")
    sorted_rows = _sorted_rows(context, context.value(experts), groups)
    layer = GroupedLinear(
        rows.tensor,
        stored.tensor,
        columns,
        node.dtype,
        context.options.row_block,
        context.options.panel_group,
        context.options.depth_piece,
    )
    kernel = context.once(
        ("grouped_linear", layer), lambda: grouped_linear_kernel(context.builder, layer)
    )
    arguments = [context.value(rows), context.value(stored), *sorted_rows]
    return _first(context, _call(context, kernel, arguments))


def _group_rows(context: Context, node: Node) -> Node:
    (experts,) = node.args
    groups = node.attr("groups")
    if not isinstance(groups, int):
        raise TypeError("the number of groups is fixed")
    return _group_call(context, context.value(experts), groups)


def _sorted_rows(context: Context, experts: Node, groups: int) -> list[Node]:
    call = _group_call(context, experts, groups)
    return [context.builder.add("get", (call,), index=i) for i in range(2)]


def _group_call(context: Context, experts: Node, groups: int) -> Node:
    kind: TensorType = experts.tensor
    piece = context.options.longest_tile
    kernel = context.once(
        ("group_rows", kind, groups),
        lambda: group_rows_kernel(context.builder, kind, groups, piece),
    )
    return _call(context, kernel, [experts])


def _permute(context: Context, node: Node) -> Node | None:
    (source,) = node.args
    order = integers(node, "order")
    if not context.is_memory(source) or not turns(source.shape, order, source.dtype):
        return None
    kernel = context.once(
        ("turn", source.tensor, order), lambda: turn_kernel(context.builder, source.tensor, order)
    )
    return _first(context, _call(context, kernel, [context.value(source)]))


_PROGRAMS: Mapping[str, Callable[[Context, Node], Node | None]] = {
    "cache_write": _cache_write,
    "cache_write_quantized": _cache_write_quantized,
    "paged_attention": _paged_attention,
    "paged_latent_attention": _paged_attention,
    "attention_forward": _attention_forward,
    "grouped_dot": _grouped_dot,
    "group_rows": _group_rows,
    "permute": _permute,
}
