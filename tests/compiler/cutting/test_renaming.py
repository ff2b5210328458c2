"""Names are left out, and nothing else."""

from banyan.compiler.cutting.renaming import PlainWeights, plainly_named
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph

LAYER = """graph layer.{0} {{
  symbol n in [1, 64]
  %0 = input {{name="x", packing=none, role="argument"}} : f32[n]
  %1 = input {{name="cache.{0}", packing=none, role="state"}} : f32[n]
  %2 = input {{name="layers.{0}.bias", packing=none, role="weight"}} : f32[]
  %3 = expand %2 {{shape=([n])}} : f32[n]
  %4 = add %0, %1 : f32[n]
  %5 = add %4, %3 : f32[n]
  output value.{0} = %5
  output cache.{0}.updated = %4 updates cache.{0}
}}
"""


def test_equal_layers_are_the_same_text() -> None:
    one, other = (plainly_named(parse_graph(LAYER.format(number))) for number in (3, 4))
    assert print_graph(one.graph) == print_graph(other.graph)
    assert one.inputs == {"x": "input.0", "cache.3": "input.1", "layers.3.bias": "input.2"}
    assert other.outputs == {"value.4": "output.0", "cache.4.updated": "output.1"}
    assert [output.updates for output in one.graph.outputs] == [None, "input.1"]


class OneWeight:
    def __init__(self) -> None:
        self.released: list[str] = []

    def names(self) -> list[str]:
        return ["layers.3.bias", "other"]

    def read(self, name: str) -> str:
        return f"array of {name}"

    def release(self, name: str) -> None:
        self.released.append(name)


def test_weights_are_read_and_released_by_their_own_names() -> None:
    source = OneWeight()
    inputs = {"x": "input.0", "layers.3.bias": "input.2"}
    weights = PlainWeights(source, inputs)  # type: ignore[arg-type]
    assert weights.names() == {"input.2"}
    assert str(weights.read("input.2")) == "array of layers.3.bias"
    weights.release("input.2")
    assert source.released == ["layers.3.bias"]
