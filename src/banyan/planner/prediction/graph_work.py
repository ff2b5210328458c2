"""Read the work of a step from its captured graph: any model, before any pass and for any chip.

Products with weights, attention and lookups are counted one by one; linears that multiply the same
rows count as one, for so they run. Of what lies between them only kernels count that look at whole
rows (norms, rotations, choices of experts), by the bytes they move: targets put the rest at the end
of products.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from banyan.compiler.ir.cached import CACHE_BLOCK
from banyan.compiler.ir.graph import Graph, Node
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.symbols import Dim, fixed, product
from banyan.compiler.ir.types import TupleType
from banyan.foundation.errors import InputError
from banyan.planner.prediction.forms import linear_form, plain_form
from banyan.planner.prediction.work import (
    BEFORE,
    AttentionWork,
    ElementwiseWork,
    ExpertWork,
    LinearWork,
    LookupWork,
    NodeWork,
    StepWork,
)

_VIEWS = frozenset("reshape permute expand slice get cast".split())
_LEAVES = frozenset("input constant data size iota".split())
_PRODUCTS = frozenset(("dot", "quantized_linear"))
_ATTENTION = frozenset(("paged_attention", "paged_latent_attention", "attention_forward"))
_WRITES = frozenset(("cache_write", "cache_write_quantized"))
_LAYER = re.compile(r"\.(\d+)(?:\.|$)")


def graph_work(graph: Graph) -> StepWork:
    """Count the work of one step.

    Raises:
        InputError: the graph was lowered to kernels already; give the captured one.
    """
    counting = _Counting(_number_of_layers(graph))
    for node in graph.nodes():
        if node.op == "call":
            raise InputError(
                f"graph {graph.name!r} is lowered to kernels, whose work is that of one target; "
                "give the captured graph"
            )
        counting.take(node)
    return StepWork(tuple(counting.found()), counting.num_layers)


def _number_of_layers(graph: Graph) -> int:
    layers = [layer for node in graph.inputs if (layer := _own_layer(node)) is not None]
    return max(layers, default=-1) + 1


def _own_layer(node: Node) -> int | None:
    """The layer in the name of a weight or state: the first number between dots."""
    if node.op != "input" or node.attr("role") == "argument":
        return None
    found = _LAYER.search(str(node.attr("name")))
    return int(found.group(1)) if found else None


@dataclass(slots=True)
class _Counting:
    """Walks nodes in order; every argument was seen before its users."""

    num_layers: int
    places: dict[Node, int] = field(default_factory=dict)
    heavy: set[Node] = field(default_factory=set)
    single: list[NodeWork] = field(default_factory=list)
    linears: dict[tuple[Node, int, str], LinearWork] = field(default_factory=dict)
    experts: dict[tuple[Node, int, str], ExpertWork] = field(default_factory=dict)
    by_rows: set[Node] = field(default_factory=set)
    crossing: dict[tuple[int, Node], Dim] = field(default_factory=dict)

    def take(self, node: Node) -> None:
        place = self.places[node] = self._place(node)
        if node.op in _LEAVES:
            return
        if node.op in _VIEWS:
            if node.args[0] in self.by_rows:
                self.by_rows.add(node)
        elif self._is_counted(node, place):
            self.heavy.add(node)
            for arg in node.args:
                self._crosses(arg, place)
        elif node.op not in POINTWISE or any(arg in self.by_rows for arg in node.args):
            self.by_rows.add(node)

    def found(self) -> Iterable[NodeWork]:
        """All work, layer by layer."""
        nodes = [*self.linears.values(), *self.experts.values(), *self.single]
        for place in sorted({place for place, _ in self.crossing}):
            each = [moved for (at, _), moved in self.crossing.items() if at == place]
            nodes.append(ElementwiseWork(place, sum(each, start=0), len(each)))
        return sorted(nodes, key=lambda node: node.place)

    def _place(self, node: Node) -> int:
        """The layer of a node: its weight's own, else the last of its arguments'."""
        if node.op == "input":
            own = _own_layer(node)
            return BEFORE if own is None else own
        place = max((self.places[arg] for arg in node.args), default=BEFORE)
        has_weight = any(_is_weight(arg) and _own_layer(arg) is None for arg in node.args)
        return self.num_layers if place >= 0 and has_weight else place

    def _is_counted(self, node: Node, place: int) -> bool:
        """Count a node that is counted by itself; False for what lies between those."""
        if node.op in _PRODUCTS:
            self._linear(node, place)
        elif node.op == "grouped_dot":
            self._experts(node, place)
        elif node.op in _ATTENTION:
            self.single.append(_attention(node, place))
        elif node.op in _WRITES:
            rows = node.args[-2].tensor
            self.single.append(ElementwiseWork(place, rows.num_bytes * 2, 1, attention=True))
        elif node.op == "gather" and _is_weight(_source(node.args[0])):
            self.single.append(_lookup(node, place))
        else:
            return False
        return True

    def _linear(self, node: Node, place: int) -> None:
        name, form, num_bytes = _weight_of(node)
        rows, source = product(node.shape[:-1]), node.args[0]
        columns, depth = fixed(node.shape[-1]), fixed(source.shape[-1])
        one = LinearWork((name,), place, rows, columns, depth, form, num_bytes)
        key = (_source(source), place, form)
        known = self.linears.get(key)
        if known is not None and (known.depth, known.rows) == (depth, rows):
            one = replace(
                known,
                names=(*known.names, name),
                columns=known.columns + columns,
                weight_bytes=known.weight_bytes + num_bytes,
            )
        self.linears[key] = one

    def _experts(self, node: Node, place: int) -> None:
        weight = _source(node.args[1])
        count, columns, depth = (fixed(size) for size in node.args[1].shape)
        form, num_bytes = plain_form(weight.dtype), float(fixed(weight.tensor.num_bytes))
        one = ExpertWork(
            (_name(weight),), place, node.shape[0], columns, depth, count, form, num_bytes
        )
        key = (_source(node.args[0]), place, form)
        known = self.experts.get(key)
        if known is not None and known.depth == depth:
            one = replace(
                known,
                names=(*known.names, *one.names),
                columns=known.columns + columns,
                weight_bytes=known.weight_bytes + num_bytes,
            )
        self.experts[key] = one

    def _crosses(self, value: Node, place: int) -> None:
        """Count a kernel between products by what it reads and writes, once for each layer.

        It reads about as much as it writes. What only follows a product number by number is part
        of that product's kernel and costs next to nothing.
        """
        source = _source(value)
        if source in self.by_rows and not isinstance(source.type, TupleType):
            self.crossing[place, source] = source.tensor.num_bytes * 2


def _source(node: Node) -> Node:
    """What a view shows."""
    while node.op in _VIEWS:
        node = node.args[0]
    return node


def _is_weight(node: Node) -> bool:
    return node.op == "input" and node.attr("role") == "weight"


def _name(weight: Node) -> str:
    return str(weight.attr("name")) if weight.op == "input" else weight.op


def _weight_of(node: Node) -> tuple[str, str, float]:
    """Name of the weight of a product, how it is stored, bytes with scales and zeros.

    What is computed in the step is no weight: its bytes are counted where it is written.
    """
    if node.op == "quantized_linear":
        parts = [_source(arg) for arg in node.args[1:]]
        form = linear_form(str(node.attr("format")), str(node.attr("activation")))
        return _name(parts[0]), form, float(sum(fixed(part.tensor.num_bytes) for part in parts))
    weight = _source(node.args[1])
    if not _is_weight(weight):
        return weight.op, plain_form(node.args[1].dtype), 0.0
    return _name(weight), plain_form(weight.dtype), float(fixed(weight.tensor.num_bytes))


def _attention(node: Node, place: int) -> AttentionWork:
    query, keys = node.args[0], node.args[1]
    heads, cache_heads, size = query.shape[1], keys.shape[1], query.shape[-1]
    form, window = plain_form(keys.dtype), 0
    if node.op == "attention_forward":
        values = node.args[2].shape[3]
        per_token = float(fixed(cache_heads * (size + values)) * keys.dtype.num_bytes)
    else:
        # Keys and, where they have memory of their own, values; scales come last.
        places = (1,) if node.op == "paged_latent_attention" else (1, 2, 6, 7)
        caches = [node.args[i].tensor for i in places if i < len(node.args)]
        of_block = sum(fixed(product(kind.shape[1:])) * kind.dtype.num_bytes for kind in caches)
        per_token = of_block / CACHE_BLOCK
        window = int(str(node.attr("window") or 0))
    return AttentionWork(
        place, fixed(heads), fixed(cache_heads), fixed(size), window, form, per_token
    )


def _lookup(node: Node, place: int) -> LookupWork:
    table, rows = _source(node.args[0]), node.args[1]
    row = fixed(product(table.shape[1:])) * table.dtype.num_bytes
    whole = fixed(table.tensor.num_bytes)
    return LookupWork(_name(table), place, product(rows.shape), float(row), float(whole))
