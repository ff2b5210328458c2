import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.ir.verify import operations_used, verify
from banyan.foundation.errors import InputError, ModelError
from banyan.models.quantisation.graph import linear_layers, quantize_graph
from banyan.models.quantisation.rounded import RoundingChoice
from banyan.models.quantisation.scheme import LinearScheme

F32 = DType.FLOAT32


def two_layers() -> Graph:
    """Token rows of a table times a layer, then times the table itself and a gate."""
    builder = Builder()
    tokens = builder.input("tokens", TensorType((3,), DType.INT64))
    table = builder.input("embed.weight", TensorType((10, 8), F32), "weight")
    weight = builder.input("layer.weight", TensorType((8, 8), F32), "weight")
    gate = builder.input("mlp.gate.weight", TensorType((4, 8), F32), "weight")
    rows = builder.add("gather", (table, tokens), axis=0)
    hidden = builder.add("dot", (rows, weight), transpose_b=True, dtype=F32)
    outputs = [
        Output(name, builder.add("dot", (hidden, other), transpose_b=True, dtype=F32))
        for name, other in (("logits", table), ("gates", gate))
    ]
    return Graph("two", (tokens, table, weight, gate), tuple(outputs))


def test_weights_that_are_only_multiplied_are_layers() -> None:
    assert linear_layers(two_layers()) == {"layer": (8, 8), "mlp.gate": (4, 8)}


def test_the_chosen_layers_change_and_nothing_else() -> None:
    scheme = LinearScheme("int4", 4, zeros=True, ordered=True)
    graph = verify(quantize_graph(two_layers(), {"layer": scheme}))
    names = [str(node.attr("name")) for node in graph.inputs]
    parts = ["layer.weight", "layer.scales", "layer.zeros", "layer.order"]
    assert names == ["tokens", "embed.weight", *parts, "mlp.gate.weight"]
    used = operations_used(graph)
    assert (used["quantized_linear"], used["dot"], used["gather"]) == (1, 2, 2)
    assert [output.name for output in graph.outputs] == ["logits", "gates"]


def test_a_tied_table_is_no_layer() -> None:
    with pytest.raises(ModelError, match=r"layer embed cannot be quantised: .* nothing else"):
        quantize_graph(two_layers(), {"embed": LinearScheme("int8", 8)})


def test_routers_stay_floats_and_others_by_name() -> None:
    graph = two_layers()
    assert list(RoundingChoice("int8").schemes(graph)) == ["layer"]
    assert list(RoundingChoice("int8", keep=("layer",)).schemes(graph)) == ["mlp.gate"]


def test_a_choice_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="groups of 5 do not divide the width 8 of layer layer"):
        RoundingChoice("int4", group=5).schemes(two_layers())
    with pytest.raises(InputError, match="groups are for int4 only, not for fp8"):
        RoundingChoice("fp8", group=64)
    with pytest.raises(InputError, match="zeros are for int4 only"):
        RoundingChoice("int8", asymmetric=True)
