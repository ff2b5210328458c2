import numpy as np
import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.ir.verify import operations_used, verify
from banyan.compiler.passes.pipeline import stages
from banyan.compiler.targets.interpreter.run import run_graph
from banyan.compiler.tiling.options import TileOptions
from banyan.foundation.errors import InputError, ModelError
from banyan.models.quantisation.graph import linear_layers, quantize_graph
from banyan.models.quantisation.importers.layer import pack_nibbles
from banyan.models.quantisation.rounded import RoundingChoice
from banyan.models.quantisation.scheme import LinearScheme
from tests.compiler.comparing import assert_same_results

F32 = DType.FLOAT32


def two_layers(width: int = 8) -> Graph:
    """Token rows of a table times a layer, then times the table itself and a gate."""
    builder = Builder()
    tokens = builder.input("tokens", TensorType((3,), DType.INT64))
    table = builder.input("embed.weight", TensorType((10, width), F32), "weight")
    weight = builder.input("layer.weight", TensorType((width, width), F32), "weight")
    gate = builder.input("mlp.gate.weight", TensorType((4, width), F32), "weight")
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


@pytest.mark.parametrize(
    "scheme", [LinearScheme("fp8", 8), LinearScheme("int4", 8, zeros=True)], ids=["fp8", "zeros"]
)
def test_a_tied_table_must_be_of_whole_numbers_around_zero(scheme: LinearScheme) -> None:
    told = rf"layer embed cannot be quantised to {scheme.format}: .* also as a table"
    with pytest.raises(ModelError, match=told):
        quantize_graph(two_layers(), {"embed": scheme})


@pytest.mark.parametrize("activation", ["plain", "int8"])
def test_a_tied_table_in_int8_means_the_same_after_every_pass(activation: str) -> None:
    scheme = LinearScheme("int8", 8, activation=activation)
    graph = verify(quantize_graph(two_layers(), {"embed": scheme}))
    generator = np.random.default_rng(4)
    given = {
        "tokens": np.array([3, 9, 0]),
        "embed.weight": generator.integers(-127, 128, (10, 8), np.int8),
        "embed.scales": generator.random((10, 1), np.float32),
        "layer.weight": generator.standard_normal((8, 8), np.float32),
        "mlp.gate.weight": generator.standard_normal((4, 8), np.float32),
    }
    plain = run_graph(graph, given)
    table = given["embed.weight"].astype(np.float32) * given["embed.scales"]
    assert np.allclose(
        plain["gates"],
        table[[3, 9, 0]] @ given["layer.weight"].T @ given["mlp.gate.weight"].T,
        rtol=1e-4,
    )
    packed = [stage for _, stage in stages(graph, TileOptions(quantized=frozenset({"int8"})))]
    for stage in packed:
        assert_same_results(graph, stage, given, 1e-4)
    inputs = {str(node.attr("name")): node.attr("packing") for node in packed[-1].inputs}
    assert inputs["embed.weight"] == "quantized_bytes"


@pytest.mark.parametrize(("activation", "width"), [("plain", 16), ("int8", 64)])
def test_a_tied_table_in_int4_means_the_same_after_every_pass(activation: str, width: int) -> None:
    scheme = LinearScheme("int4", 8, activation=activation)
    graph = verify(quantize_graph(two_layers(width), {"embed": scheme}))
    generator = np.random.default_rng(4)
    numbers = generator.integers(-8, 8, (10, width))
    given = {
        "tokens": np.array([3, 9, 0]),
        "embed.weight": pack_nibbles((numbers + 8).astype(np.uint8)),
        "embed.scales": generator.random((10, width // 8), np.float32),
        "layer.weight": generator.standard_normal((width, width), np.float32),
        "mlp.gate.weight": generator.standard_normal((4, width), np.float32),
    }
    table = (numbers * np.repeat(given["embed.scales"], 8, axis=1)).astype(np.float32)
    gates = table[[3, 9, 0]] @ given["layer.weight"].T @ given["mlp.gate.weight"].T
    assert np.allclose(run_graph(graph, given)["gates"], gates, rtol=1e-4, atol=1e-4)
    for options in (TileOptions(quantized=frozenset({"int4"})), TileOptions(packing=False)):
        lowered = [stage for _, stage in stages(graph, options)]
        for stage in lowered:
            assert_same_results(graph, stage, given, 1e-4)
        packings = {str(node.attr("name")): node.attr("packing") for node in lowered[-1].inputs}
        assert packings["embed.weight"] == ("quantized_nibbles" if options.packing else None)


@pytest.mark.parametrize("output", ["int8", "int4"])
def test_the_output_matrix_is_rounded_with_its_table_when_asked(output: str) -> None:
    found = RoundingChoice("int4", group=4, output=output).schemes(two_layers())
    assert {name: scheme.format for name, scheme in found.items()} == {
        "layer": "int4",
        "embed": output,
    }


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
