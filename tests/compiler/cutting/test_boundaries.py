"""What crosses from stage to stage is the residual stream, and nothing beside it."""

from pathlib import Path

import pytest

from banyan.compiler.cutting.boundaries import stages_of_nodes
from banyan.compiler.cutting.segments import cut_graph
from banyan.compiler.ir.graph import Node
from tests.compiler.cutting.steps import assert_same_bits, run_segments, run_whole, step_of
from tests.conftest import Checkpoint


def layer_of(node: Node) -> int | None:
    """One stage for each layer of two; what is behind them is in the last."""
    name = str(node.attr("name"))
    if name.startswith("model.layers."):
        return int(name.split(".")[2])
    if name.rpartition(".")[2].isdigit():
        return int(name.rpartition(".")[2])
    return 0 if name == "model.embed_tokens.weight" else 1


@pytest.mark.parametrize("kind", ["llama", "llama_tied"])
def test_only_the_residual_stream_crosses(
    kind: str, checkpoint: Checkpoint, program_cache: Path
) -> None:
    graph, arrays = step_of(checkpoint(kind), program_cache)
    stages = stages_of_nodes(graph, layer_of, 2)
    first, second = cut_graph(graph, lambda node: (f"stage {stages[node]}",))
    (value,) = second.received
    (sent,) = (output.node for output in first.graph.outputs if output.name == value)
    assert (sent.op, str(sent.type)) == ("add", "f32[num_tokens, 64]")
    states = [
        [str(node.attr("name")) for node in segment.graph.inputs if node.attr("role") == "state"]
        for segment in (first, second)
    ]
    assert states == [["key_cache.0", "value_cache.0"], ["key_cache.1", "value_cache.1"]]
    assert first.given == (value,)
    assert second.given == ("logits",)
    assert_same_bits(run_segments((first, second), arrays), run_whole(graph, arrays))
