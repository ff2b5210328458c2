"""Operations that have a program of their own become calls of its kernel."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from banyan.compiler.ir.attributes import integer, integers
from banyan.compiler.ir.graph import Builder, Kernel, Node
from banyan.compiler.ir.match import fill_value
from banyan.compiler.ir.packing import stored_weight
from banyan.compiler.ir.symbols import fixed
from banyan.compiler.programs.attention_types import AttentionOptions, AttentionTypes
from banyan.compiler.programs.cache_write import (
    cache_write_kernel,
    cache_write_quantized_kernel,
)
from banyan.compiler.programs.grouped_linear import (
    GroupedLinear,
    group_rows_kernel,
    grouped_linear_kernel,
)
from banyan.compiler.programs.low_rank import LowRank, low_rank_kernel
from banyan.compiler.programs.paged_attention import paged_attention_kernel
from banyan.compiler.programs.scatter import Scatter, scatter_kernel
from banyan.compiler.programs.split_keys import merge_splits_kernel, most_splits
from banyan.compiler.programs.turning import turn_kernel, turns
from banyan.compiler.programs.whole_attention import (
    WholeAttention,
    in_pairs,
    pack_kernel,
    whole_attention_kernel,
)
from banyan.compiler.programs.window_panels import Windows, window_panels_kernel
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

    def call(
        self, make: Callable[..., Kernel], sizes: tuple[object, ...], arguments: Iterable[Node]
    ) -> Node:
        """A call of the kernel that `make(builder, *sizes)` gives; it is made once for all calls.

        Arguments are nodes of the lowered graph.
        """
        kernel = self.once((make, *sizes), lambda: make(self.builder, *sizes))
        return self.builder.add("call", arguments, kernel=kernel)

    def values(self, nodes: Iterable[Node]) -> list[Node]:
        """What nodes of the graph became."""
        return [self.value(node) for node in nodes]

    def result(self, call: Node, index: int = 0) -> Node:
        """One result of a call."""
        return self.builder.add("get", (call,), index=index)


def lower_program(context: Context, node: Node) -> Node | None:
    """The call that replaces `node`, or None when no program is written for it."""
    lowering = _PROGRAMS.get(node.op)
    return None if lowering is None else lowering(context, node)


def _cache_write(context: Context, node: Node) -> Node:
    sizes = (*(arg.tensor for arg in node.args), str(node.attr("layout")))
    return context.result(context.call(cache_write_kernel, sizes, context.values(node.args)))


def _cache_write_quantized(context: Context, node: Node) -> Node:
    sizes = (tuple(arg.tensor for arg in node.args), str(node.attr("layout")))
    return context.call(cache_write_quantized_kernel, sizes, context.values(node.args))


def _paged_attention(context: Context, node: Node) -> Node:
    kinds = [arg.tensor for arg in node.args]
    if node.op == "paged_latent_attention":
        types = AttentionTypes(kinds[0], kinds[1], None, *kinds[2:])
    else:
        types = AttentionTypes(*kinds)
    attrs: dict[str, Any] = dict(node.attrs)
    size = fixed(node.shape[2])
    options = AttentionOptions(
        float(attrs["scale"]), int(attrs["window"]), size, context.options.attention_blocks
    )
    arguments = context.values(node.args)
    call = context.call(paged_attention_kernel, (types, options), arguments)
    if most_splits(types.tables.shape[1]) == 1:
        return context.result(call)
    behind = 3 if types.values is None else 4
    found = [context.builder.add("get", (call,), index=i) for i in range(3)]
    parts = (found[0].tensor, types.tables, types.lengths, options.window)
    where = arguments[behind : behind + 2]
    return context.result(context.call(merge_splits_kernel, parts, [*found, *where]))


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
        context.options.attention_blocks,
    )

    def packed(rows: Node, layout: str) -> Node:
        view = context.value(rows).reshape(in_pairs(rows.tensor).shape)
        return context.result(context.call(pack_kernel, (rows.tensor, layout), [view]))

    both = [packed(keys, "keys"), packed(values, "values")]
    arguments = [context.value(queries), *both, *context.values(mask)]
    return context.call(whole_attention_kernel, (types,), arguments)


def _grouped_dot(context: Context, node: Node) -> Node:
    rows, weight, experts = node.args
    stored, options = stored_weight(weight), context.options
    groups = _group_rows(context, experts, fixed(weight.shape[0]))
    order = [context.result(groups, index) for index in range(2)]
    layer = GroupedLinear(
        rows.tensor,
        stored.tensor,
        fixed(weight.shape[1]),
        node.dtype,
        options.row_block,
        options.panel_group,
        options.depth_piece,
    )
    arguments = [*context.values([rows, stored]), *order]
    return context.result(context.call(grouped_linear_kernel, (layer,), arguments))


def _group_rows(context: Context, experts: Node, groups: int) -> Node:
    sizes = (experts.tensor, groups, context.options.longest_tile)
    return context.call(group_rows_kernel, sizes, context.values([experts]))


def _low_rank(context: Context, node: Node) -> Node:
    x, down, up, chosen, *scales = (arg.tensor for arg in node.args)
    types = LowRank(x, down, up, chosen, integers(node, "columns"), *scales)
    groups = _group_rows(context, node.args[3], types.num_adapters)
    order = [context.result(groups, index) for index in range(2)]
    arguments = [*context.values(node.args), *order]
    return context.result(context.call(low_rank_kernel, (types,), arguments))


def _scatter(context: Context, node: Node) -> Node:
    start = fill_value(node.args[0])
    given = node.args if start is None else node.args[1:]
    target, index, rows = (arg.tensor for arg in node.args)
    scatter = Scatter(target, index, rows, str(node.attr("kind")), start)
    return context.result(context.call(scatter_kernel, (scatter,), context.values(given)))


def _window_panels(context: Context, node: Node) -> Node:
    attrs: dict[str, Any] = dict(node.attrs)
    names = ("kernel", "stride", "dilation", "border", "places")
    windows = Windows(node.args[0].tensor, node.tensor, *(attrs[name] for name in names))
    call = context.call(window_panels_kernel, (windows,), context.values(node.args))
    return context.result(call)


def _permute(context: Context, node: Node) -> Node | None:
    (source,) = node.args
    order = integers(node, "order")
    if not context.is_memory(source) or not turns(source.shape, order, source.dtype):
        return None
    call = context.call(turn_kernel, (source.tensor, order), context.values([source]))
    return context.result(call)


_PROGRAMS: Mapping[str, Callable[[Context, Node], Node | None]] = {
    "cache_write": _cache_write,
    "cache_write_quantized": _cache_write_quantized,
    "paged_attention": _paged_attention,
    "paged_latent_attention": _paged_attention,
    "attention_forward": _attention_forward,
    "grouped_dot": _grouped_dot,
    "group_rows": lambda context, node: _group_rows(context, node.args[0], integer(node, "groups")),
    "low_rank": _low_rank,
    "permute": _permute,
    "scatter": _scatter,
    "window_panels": _window_panels,
}
