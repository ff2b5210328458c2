"""A batch of many adapters gives what as many merged models give, in compiled code."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.executable import Executable
from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.ir.types import DType
from banyan.compiler.passes.pipeline import lower
from banyan.devices.cpu import CpuDevice
from banyan.devices.native import Missing, find_compiler
from banyan.devices.thread_pool import open_thread_pool
from banyan.foundation.errors import GraphError, UnsupportedModelError
from banyan.models.adapters.graph import AdapterRoom, adapted_graph
from banyan.models.adapters.reading import Adapter, read_adapter
from banyan.models.adapters.targets import Target, TargetGroup
from banyan.models.configuration import ModelConfiguration
from banyan.models.loading import ModelDirectory, open_model
from banyan.models.quantisation.graph import linear_layers, quantize_graph
from banyan.models.quantisation.scheme import LinearScheme
from banyan.models.step_graph import decoder_step_graph
from tests.conftest import PROGRAM_CACHE, Checkpoint
from tests.models.adapters.files import make_adapter

needs_compiler = pytest.mark.skipif(
    isinstance(find_compiler(), Missing), reason="needs a C++ compiler"
)
LONGEST, NUM_ADAPTERS = 5, 32


@dataclass(frozen=True)
class Weights:
    """Arrays as a source of weights."""

    arrays: Mapping[str, NDArray[Any]]

    def names(self) -> Collection[str]:
        return self.arrays.keys()

    def read(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def release(self, name: str) -> None:
        """Nothing is mapped."""


@cache
def captured(directory: Path, dtype: str) -> Graph:
    configuration = open_model(str(directory)).decoder_configuration()
    return decoder_step_graph(configuration, dtype=dtype, cache_directory=PROGRAM_CACHE)


def loaded(
    graph: Graph, weights: Mapping[str, Any], num_sequences: int, folder: Path
) -> Executable:
    device = CpuDevice(2, lambda threads: open_thread_pool(threads, cache_directory=folder))
    options = CompileOptions(folder, optimise=False)
    executable = compile_graph(graph, device=device, options=options)
    executable.load_weights(Weights(weights))
    executable.allocate_state({"num_blocks": num_sequences})
    return executable


def prompts(count: int) -> list[list[int]]:
    """Prompts of one to five tokens."""
    generator = np.random.default_rng(1)
    return [generator.integers(3, 300, 1 + i % LONGEST).tolist() for i in range(count)]


def step_of(texts: list[list[int]]) -> dict[str, Any]:
    """All prompts in one step, each in a block of its own."""
    lengths = np.array([len(text) for text in texts])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.concatenate([np.arange(length) for length in lengths])
    owners = np.repeat(np.arange(len(texts)), lengths)
    return {
        "token_ids": np.concatenate(texts).astype(np.int64),
        "positions": positions,
        "slots": owners * 16 + positions,
        "block_tables": np.arange(len(texts), dtype=np.int32)[:, None],
        "query_starts": starts.astype(np.int32),
        "context_lengths": lengths.astype(np.int32),
        "logit_rows": starts[1:] - 1,
    }


def merged(plain: Mapping[str, Any], adapter: Adapter) -> dict[str, Any]:
    """The weights of a model of its own: W + up down, computed here in float64."""
    found = dict(plain)
    for (layer, path), pair in adapter.pairs.items():
        name = f"model.layers.{layer}.{path}.weight"
        change = pair.up.astype(np.float64) @ pair.down.astype(np.float64)
        found[name] = (plain[name].astype(np.float64) + change).astype(np.float32)
    return found


def plain_weights(graph: Graph, model: ModelDirectory) -> dict[str, Any]:
    source = model.open_weights()
    names = [str(n.attr("name")) for n in graph.inputs if n.attr("role") == "weight"]
    return {name: np.array(source.read(name)) for name in names}


def make_adapters(folder: Path, configuration: ModelConfiguration, count: int) -> list[Adapter]:
    """Adapters of ranks 1 to 6 over different layers."""
    chosen = [
        ("q_proj", "v_proj"),
        ("q_proj", "k_proj", "v_proj", "o_proj"),
        ("gate_proj", "up_proj", "down_proj", "k_proj"),
        ("down_proj", "o_proj", "up_proj"),
    ]
    if configuration.experts is not None:
        chosen = chosen[:2]
    return [
        read_adapter(
            make_adapter(
                folder / str(i),
                configuration,
                rank=1 + i % 6,
                modules=chosen[i % len(chosen)],
                seed=i,
                size=0.1,
            ),
            configuration,
            max_rank=6,
        )
        for i in range(count)
    ]


def fill(executable: Executable, room: AdapterRoom, adapters: list[Adapter]) -> None:
    for slot, adapter in enumerate(adapters):
        places = room.places(room.changed_groups(adapter), slot)
        for name, array in (room.factors(adapter) | places).items():
            executable.write_state_part(name, slot, array)


@needs_compiler
@pytest.mark.parametrize(
    "kind", ["qwen2", "qwen3", pytest.param("qwen3_moe", marks=pytest.mark.wide)]
)
def test_a_batch_of_32_adapters_equals_32_merged_models(
    checkpoint: Checkpoint, kind: str, tmp_path: Path, program_cache: Path
) -> None:
    model = open_model(str(checkpoint(kind)))
    configuration = model.decoder_configuration()
    graph = captured(checkpoint(kind), "float32")
    plain = plain_weights(graph, model)
    adapters = make_adapters(tmp_path, configuration, NUM_ADAPTERS)
    room = AdapterRoom(configuration, slots=NUM_ADAPTERS, max_rank=6, dtype=DType.FLOAT32)
    # Every adapter has one sequence, two have two, and two sequences have none.
    owners = [-1, *np.random.default_rng(7).permutation(NUM_ADAPTERS).tolist(), 3, 3, 17, -1]
    texts = prompts(len(owners))
    step = step_of(texts)
    several = loaded(adapted_graph(graph, room), plain, len(texts), program_cache)
    fill(several, room, adapters)
    lengths = np.diff(step["query_starts"])
    of_token = np.repeat(np.array(owners, np.int32), lengths)
    found = several.run({**step, "adapters": of_token})["logits"].copy()

    alone = loaded(graph, plain, len(texts), program_cache)
    base = alone.run(step)["logits"].copy()
    differences = []
    for owner in sorted(set(owners)):
        rows = [row for row, other in enumerate(owners) if other == owner]
        if owner >= 0:
            alone.load_weights(Weights(merged(plain, adapters[owner])))
            wanted = alone.run(step)["logits"]
            differences.append(np.abs(wanted[rows] - base[rows]).max())
        else:
            wanted = base
            np.testing.assert_array_equal(found[rows], base[rows])
        np.testing.assert_allclose(found[rows], wanted[rows], rtol=2e-4, atol=2e-4)
    assert min(differences) > 0.01, "an adapter that changes nothing proves nothing"


@needs_compiler
@pytest.mark.parametrize("is_rounded", [pytest.param(False, marks=pytest.mark.wide), True])
def test_a_bfloat16_base_takes_adapters_as_they_are_and_rounded(
    checkpoint: Checkpoint, tmp_path: Path, program_cache: Path, is_rounded: bool
) -> None:
    model = open_model(str(checkpoint("qwen3")))
    configuration = model.decoder_configuration()
    graph = captured(checkpoint("qwen3"), "bfloat16")
    adapters = make_adapters(tmp_path, configuration, 4)
    room = AdapterRoom(configuration, 4, 6, DType.BFLOAT16, is_rounded)
    plain = plain_weights(graph, model)
    step = step_of(prompts(6))
    of_token = np.repeat(np.array([0, 1, 2, 3, -1, 1], np.int32), np.diff(step["query_starts"]))
    several = loaded(adapted_graph(graph, room), plain, 6, program_cache)
    fill(several, room, adapters)
    found = several.run({**step, "adapters": of_token})["logits"].copy()
    alone = loaded(graph, plain, 6, program_cache)
    for row, owner in enumerate([0, 1, 2, 3, -1, 1]):
        changed = plain if owner < 0 else merged(plain, adapters[owner])
        alone.load_weights(Weights(changed))
        wanted = alone.run(step)["logits"][row]
        assert np.abs(found[row] - wanted).max() <= 0.04 * np.abs(wanted).max()


def test_rounded_factors_are_nearer_than_half_a_step_of_either(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    configuration = open_model(str(checkpoint("qwen3"))).decoder_configuration()
    (adapter,) = make_adapters(tmp_path, configuration, 1)
    plain = AdapterRoom(configuration, 1, 6, DType.FLOAT32)
    rounded = AdapterRoom(configuration, 1, 6, DType.BFLOAT16, is_rounded=True)
    exact, found = plain.factors(adapter), rounded.factors(adapter)
    _, group = next(plain.groups())
    assert 2 * rounded.num_bytes < plain.num_bytes

    def matrices(factors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        halves = (factors[f"adapter_{half}.0.{group.name}"] for half in ("down", "up"))
        return [
            half.transpose(0, 2, 1, 3).reshape(half.shape[0] * 16, -1).astype(np.float64)
            for half in halves
        ]

    (down, up), (near_down, near_up) = matrices(exact), matrices(found)
    scales = found[f"adapter_scales.0.{group.name}"]
    rows = group.outputs[0]
    wanted, given = up[:rows] @ down[:6], near_up[:rows] * scales[:6] @ near_down[:6]
    # A byte is off by at most half a step of 1/127 of the largest: of each factor, and of both.
    bound = (np.abs(up[:rows]).max(0) * np.abs(down[:6]).max(1)).sum() * (1 / 127 + 1 / 254**2)
    assert 0 < np.abs(wanted - given).max() < bound


def test_a_quantised_graph_keeps_its_layers_and_gains_the_changes(checkpoint: Checkpoint) -> None:
    model = open_model(str(checkpoint("qwen3")))
    graph = captured(checkpoint("qwen3"), "bfloat16")
    layers = {n: s for n, s in linear_layers(graph).items() if n != "lm_head"}
    scheme = LinearScheme("int8", group=64, activation="int8")
    quantised = quantize_graph(graph, dict.fromkeys(layers, scheme))
    room = AdapterRoom(model.decoder_configuration(), 2, 8, DType.BFLOAT16)
    adapted = adapted_graph(quantised, room)
    ops = [node.op for node in adapted.nodes()]
    assert ops.count("quantized_linear") == len(layers)
    assert ops.count("low_rank") == 2 * 4


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_queries_keys_and_values_stay_one_product(checkpoint: Checkpoint, kind: str) -> None:
    """With and without biases: one launch more for each group, two for each kind of group."""
    model = open_model(str(checkpoint(kind)))
    graph = captured(checkpoint(kind), "float32")
    room = AdapterRoom(model.decoder_configuration(), 2, 8, DType.FLOAT32)
    before, after = lower(graph), lower(adapted_graph(graph, room))

    def calls(lowered: Graph) -> int:
        return sum(node.op == "call" for node in lowered.nodes())

    def joined(lowered: Graph) -> int:
        return sum(node.op == "concat" for node in lowered.nodes())

    assert joined(before) == joined(after) > 0
    assert calls(after) == calls(before) + 2 * 4 + 2 * 4


def test_a_graph_without_room_is_not_touched(checkpoint: Checkpoint) -> None:
    graph = captured(checkpoint("qwen3"), "float32")
    assert "low_rank" not in print_graph(graph)


def test_a_graph_that_lacks_a_layer_is_refused(checkpoint: Checkpoint) -> None:
    model = open_model(str(checkpoint("qwen3")))
    encoderlike = Graph("nothing", (), ())
    room = AdapterRoom(model.decoder_configuration(), 2, 8, DType.FLOAT32)
    with pytest.raises(GraphError, match=r"no single product with model\.layers\.0\.self_attn"):
        adapted_graph(encoderlike, room)


@pytest.mark.parametrize("sizes", [(33, 16), (32, 24)])
def test_layers_that_do_not_fill_blocks_are_refused_by_name(
    checkpoint: Checkpoint, sizes: tuple[int, int]
) -> None:
    model = open_model(str(checkpoint("qwen3")))
    room = AdapterRoom(model.decoder_configuration(), 2, 7, DType.BFLOAT16)
    assert room.rank == 8
    with pytest.raises(
        UnsupportedModelError, match=f"x of this model maps {sizes[0]} to {sizes[1]}"
    ):
        room.types(TargetGroup("x", (Target("mlp.x", *sizes),)))
