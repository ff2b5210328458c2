from collections.abc import Iterator
from pathlib import Path

import pytest

from banyan.compiler.compile import CompileOptions
from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.tiling.options import LinearBlock, LinearShape
from banyan.compiler.tuner.search import Bench, known_block, linear_shapes, time_blocks, tune
from banyan.devices.cpu import CpuDevice
from banyan.devices.recorder import LaunchRecorder
from banyan.devices.thread_pool import open_thread_pool
from tests.compiler.tuner.test_roofline import PROFILE

SHAPE = LinearShape(64, 96, "f32")


@pytest.fixture
def bench(program_cache: Path) -> Iterator[Bench]:
    device = CpuDevice(2, lambda n: open_thread_pool(n, cache_directory=program_cache))
    options = CompileOptions(program_cache, optimise=False)
    recorder = LaunchRecorder(program_cache)
    yield Bench(device, recorder, PROFILE, options, (1, 40), 100_000, "2026-01-01")
    device.close()


def test_each_shape_of_a_graph_is_found_once() -> None:
    builder = Builder()
    x = builder.input("x", TensorType((symbol("tokens", 1, 64), 64), DType.FLOAT32))
    up, down = (
        builder.input(name, TensorType(shape, DType.FLOAT32), "weight")
        for name, shape in (("up", (96, 64)), ("down", (64, 96)))
    )

    def layer(left: Node, weight: Node) -> Node:
        return builder.add("dot", (left, weight), transpose_b=True, dtype=DType.FLOAT32)

    twice = layer(layer(layer(layer(x, up), down), up), down)
    graph = Graph("layers", (x, up, down), (Output("y", twice),))
    assert linear_shapes(graph) == [LinearShape(64, 96, "f32"), LinearShape(96, 64, "f32")]


def test_blocks_are_timed_for_every_number_of_rows(bench: Bench) -> None:
    blocks = [LinearBlock(16, 2), LinearBlock(64, 4)]
    timings = time_blocks(SHAPE, blocks, bench)
    assert [timing.block for timing in timings] == blocks
    for timing in timings:
        assert [rows for rows, _ in timing.seconds] == [1, 40]
        assert all(0 < seconds < 1 for _, seconds in timing.seconds)


def test_the_winner_is_the_block_with_the_least_time_in_its_own_evidence(bench: Bench) -> None:
    told: list[tuple[str, int, int]] = []
    (found,) = tune([SHAPE], bench, lambda *call: told.append(call))
    assert told == [("linear 64 x 96 f32", 0, 1), ("done", 1, 1)]
    blocks = [timing.block for timing in found.timings]
    assert blocks[0] == known_block(SHAPE, bench)
    assert 8 <= len(set(blocks)) == len(blocks) <= 9
    assert found.block in [timing.block for timing in found.timings]
    fastest = {m: min(dict(t.seconds)[m] for t in found.timings) for m in (1, 40)}
    losses = {t.block: sum(seconds / fastest[m] for m, seconds in t.seconds) for t in found.timings}
    assert losses[found.block] == min(losses.values())
