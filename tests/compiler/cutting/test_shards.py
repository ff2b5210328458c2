"""Tensors cut between ranks: the same logits but for the order of sums."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banyan.compiler.cutting.segments import cut_graph
from banyan.compiler.cutting.shards import (
    PlacesOf,
    ShardedGraph,
    ShardedWeights,
    shard_graph,
)
from banyan.compiler.ir.graph import Node
from banyan.foundation.errors import InputError
from tests.compiler.cutting.steps import names_of, run_segments, run_whole, step_of
from tests.conftest import Checkpoint


class Arrays:
    """Weights in memory."""

    def __init__(self, arrays: Any) -> None:
        self.arrays = arrays

    def names(self) -> Any:
        return self.arrays.keys()

    def read(self, name: str) -> Any:
        return self.arrays[name]

    def release(self, name: str) -> None:
        """Nothing is held."""


def among(*places: str) -> PlacesOf:
    """All that lies in a layer is cut among the same places."""
    return lambda node: places


def of_ranks(sharded: ShardedGraph, arrays: Any) -> dict[str, Any]:
    weights = ShardedWeights(Arrays(arrays), sharded.shards)
    found = {name: weights.read(name) for name in names_of(sharded.graph, "weight")}
    for name in names_of(sharded.graph, "state"):
        whole = arrays[name.partition(".part")[0]]
        # A cache with one head is for all heads of queries: every rank keeps it.
        found[name] = whole[:, : max(whole.shape[1] // 2, 1)].copy()
    return found | {name: arrays[name] for name in names_of(sharded.graph, "argument")}


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3_moe", "deepseek_v3"])
def test_two_ranks_give_the_logits_of_one(
    kind: str, checkpoint: Checkpoint, program_cache: Path
) -> None:
    graph, arrays = step_of(checkpoint(kind), program_cache)
    sharded = shard_graph(graph, among("rank 0", "rank 1"))
    inputs = of_ranks(sharded, arrays)

    def places_of(node: Node) -> tuple[str, ...]:
        place = sharded.place_of.get(node)
        return ("rank 0", "rank 1") if place is None else (place,)

    segments = cut_graph(sharded.graph, places_of)
    found = run_segments(segments, inputs)["logits"]
    wanted = run_whole(graph, arrays)["logits"]
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    # Only summands cross, one row of the residual stream for each token.
    kinds = {
        str(output.node.type)
        for segment in segments
        for output in segment.graph.outputs
        if any(output.name in other.received and other.place != segment.place for other in segments)
    }
    assert kinds == {"f32[num_tokens, 64]"}
    cut = {name.partition(".part")[0] for name in sharded.shards}
    of_layer = {name.removeprefix("model.layers.0.") for name in cut if ".layers.0." in name}
    first = {"q_b_proj", "kv_b_proj"} if "deepseek" in kind else {"q_proj", "k_proj", "v_proj"}
    linears = first | {"o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.split(".")[-2] for name in of_layer} == linears


def test_heads_that_do_not_divide_are_refused(checkpoint: Checkpoint, program_cache: Path) -> None:
    graph, _ = step_of(checkpoint("llama"), program_cache)
    with pytest.raises(InputError, match=r"has 2 heads of its cache, which 4 devices cannot"):
        shard_graph(graph, among("a", "b", "c", "d"))
