"""From the graph of a model to that of the same model with quantised layers.

The plain graph says everything: a layer is a product with the transpose of a weight. So the graph
of a model is captured once and serves every format, and a model somebody changed by hand is
quantised like any other.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from banyan.compiler.ir.graph import Builder, Graph, Node, Output, rebuild
from banyan.compiler.ir.quantized import MIDDLE
from banyan.compiler.ir.types import DType, TensorType
from banyan.foundation.errors import ModelError
from banyan.models.quantisation.scheme import LinearScheme

_SUFFIX = ".weight"
_PART_TYPES = {
    "scales": DType.FLOAT32,
    "zeros": DType.UINT8,
    "order": DType.INT64,
}
_WEIGHT_TYPES = {"int8": DType.INT8, "int4": DType.UINT8, "fp8": DType.FLOAT8_E4M3}


def linear_layers(graph: Graph) -> dict[str, tuple[int, int]]:
    """Layers whose weight is only ever multiplied by its transpose: name to (columns, depth)."""
    return {
        layer: _sizes(weight)
        for layer, (weight, users) in _weights(graph).items()
        if weight.tensor.rank == 2 and all(_is_linear(user, weight) for user in users)
    }


def tied_layers(graph: Graph) -> dict[str, tuple[int, int]]:
    """Layers whose weight is also a table that rows are looked up in: (columns, depth)."""
    return {
        layer: _sizes(weight)
        for layer, (weight, users) in _weights(graph).items()
        if weight.tensor.rank == 2
        and any(_is_linear(user, weight) for user in users)
        and any(_is_lookup(user, weight) for user in users)
        and all(_is_linear(user, weight) or _is_lookup(user, weight) for user in users)
    }


def expert_layers(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Stacks of experts: name to (experts, columns, depth)."""
    return {
        layer: tuple(size for size in weight.shape if isinstance(size, int))
        for layer, (weight, users) in _weights(graph).items()
        if weight.tensor.rank == 3 and all(user.op == "grouped_dot" for user in users)
    }


def quantize_graph(graph: Graph, schemes: Mapping[str, LinearScheme]) -> Graph:
    """The graph with the layers of `schemes` quantised, under the same names.

    Weights become inputs `layer.weight`, `layer.scales`, `layer.zeros` and `layer.order`.

    Raises:
        ModelError: a layer is not there, or its weight is used in other ways too.
    """
    tied = tied_layers(graph)
    known = linear_layers(graph) | tied
    for layer, scheme in schemes.items():
        if layer not in known or (layer in tied and not _can_be_looked_up(scheme)):
            raise ModelError(
                f"layer {layer} cannot be quantised to {scheme.format}: the model has no linear "
                "layer of that name whose weight serves nothing else (in int8 and in int4 without "
                "zeros also as a table)"
            )
    builder = Builder()
    new: dict[Node, Node] = {}
    inputs: list[Node] = []
    for node in graph.inputs:
        layer = _layer_of(node)
        if layer in schemes:
            inputs += _parts(builder, layer, schemes[layer], known[layer])
        else:
            new[node] = rebuild(builder, node, ())
            inputs.append(new[node])
    named = {str(node.attr("name")): node for node in inputs}
    for node in graph.nodes():
        if node.op == "input":
            continue
        layer = _layer_of(node.args[1]) if node.op == "dot" else ""
        if layer in schemes:
            rows = new[node.args[0]]
            new[node] = _linear(builder, node, rows, (layer, schemes[layer]), named)
        elif node.op == "gather" and _layer_of(node.args[0]) in schemes:
            scheme = schemes[_layer_of(node.args[0])]
            new[node] = _looked_up(builder, node, new[node.args[1]], scheme, named)
        else:
            new[node] = rebuild(builder, node, tuple(new[arg] for arg in node.args))
    outputs = tuple(Output(o.name, new[o.node], o.updates) for o in graph.outputs)
    return replace(graph, inputs=tuple(inputs), outputs=outputs)


def observed_graph(graph: Graph, layers: Collection[str]) -> tuple[Graph, dict[str, str]]:
    """The graph with the rows that go into each layer as further outputs, and their names."""
    names: dict[Node, str] = {}
    found: dict[str, str] = {}
    for node in graph.nodes():
        layer = _layer_of(node.args[1]) if node.op == "dot" else ""
        if layer in layers:
            found[layer] = names.setdefault(node.args[0], f"rows.{len(names)}")
    more = tuple(Output(name, node) for node, name in names.items())
    return replace(graph, outputs=(*graph.outputs, *more)), found


def _weights(graph: Graph) -> dict[str, tuple[Node, list[Node]]]:
    found: dict[str, tuple[Node, list[Node]]] = {}
    for node in graph.inputs:
        layer = _layer_of(node)
        if layer:
            found[layer] = (node, [])
    for node in graph.nodes():
        for arg in node.args:
            layer = _layer_of(arg)
            if layer:
                found[layer][1].append(node)
    return {layer: (weight, users) for layer, (weight, users) in found.items() if users}


def _layer_of(node: Node) -> str:
    """The layer whose weight a node is; empty when it is none."""
    if node.op != "input" or node.attr("role") != "weight":
        return ""
    name = str(node.attr("name"))
    return name.removesuffix(_SUFFIX) if name.endswith(_SUFFIX) else ""


def _is_linear(user: Node, weight: Node) -> bool:
    product = user.op == "dot" and user.args[1] is weight and user.args[0] is not weight
    return product and user.attr("transpose_b") is True and user.args[0].tensor.rank == 2


def _is_lookup(user: Node, weight: Node) -> bool:
    rows = user.op == "gather" and user.args[0] is weight and user.args[1] is not weight
    return rows and user.attr("axis") == 0


def _can_be_looked_up(scheme: LinearScheme) -> bool:
    """Whether rows of a weight in this scheme can be read one by one."""
    plain = not scheme.ordered and not scheme.zeros and scheme.rows == 1
    return plain and scheme.format in {"int8", "int4"}


def _looked_up(
    builder: Builder, node: Node, rows: Node, scheme: LinearScheme, named: Mapping[str, Node]
) -> Node:
    """Rows of a quantised table, times the scales that they have."""
    layer = _layer_of(node.args[0])
    numbers, scales = (
        builder.add("gather", (named[f"{layer}.{part}"], rows), axis=0)
        for part in ("weight", "scales")
    )
    if scheme.format == "int4":
        numbers = numbers.apply("unpack", bits=4).cast(DType.FLOAT32) - MIDDLE
    groups = (*scales.shape, scheme.group)
    spread = scales.reshape((*scales.shape, 1)).expand(groups).reshape(numbers.shape)
    return (numbers.cast(DType.FLOAT32) * spread).cast(node.dtype)


def _sizes(weight: Node) -> tuple[int, int]:
    columns, depth = weight.shape
    if not isinstance(columns, int) or not isinstance(depth, int):
        raise ModelError(f"weight {weight.attr('name')} has no fixed sizes")
    return columns, depth


def _parts(
    builder: Builder, layer: str, scheme: LinearScheme, sizes: tuple[int, int]
) -> list[Node]:
    types = {**_PART_TYPES, "weight": _WEIGHT_TYPES[scheme.format]}
    return [
        builder.input(f"{layer}.{part}", TensorType(shape, types[part]), "weight")
        for part, shape in scheme.shapes(*sizes).items()
    ]


def _linear(
    builder: Builder,
    node: Node,
    rows: Node,
    chosen: tuple[str, LinearScheme],
    named: Mapping[str, Node],
) -> Node:
    layer, scheme = chosen
    if scheme.ordered:
        rows = builder.add("gather", (rows, named[f"{layer}.order"]), axis=1)
    parts = ["weight", "scales", *(["zeros"] if scheme.zeros else [])]
    return builder.add(
        "quantized_linear",
        (rows, *(named[f"{layer}.{part}"] for part in parts)),
        format=scheme.format,
        group=scheme.group,
        rows=scheme.rows,
        activation=scheme.activation,
        dtype=node.attr("dtype"),
    )
