"""Times the most promising blocks of a linear layer and names the best.

Every candidate multiplies by several copies of the weight, one after the other, together larger
than the caches: a layer of a model never finds its weight where the last run left it. Candidates
take turns, round by round, so that a slow phase of the machine hits all of them.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.executable import Array, Executable
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.passes.pipeline import stages
from banyan.compiler.schedules.evidence import Finding, Timing
from banyan.compiler.schedules.known import seed_blocks
from banyan.compiler.targets.cpp.registry import rows_per_item
from banyan.compiler.targets.cpp.target import open_target
from banyan.compiler.tiling.options import LinearBlock, LinearShape, TileOptions
from banyan.compiler.tuner.candidates import ranked_blocks
from banyan.devices.cpu import CpuDevice
from banyan.devices.profile import DeviceProfile
from banyan.devices.recorder import LaunchRecorder

BEST_TIMED = 8
ROUNDS = 7
MOST_COPIES = 48
TUNABLE = {DType.BFLOAT16.value: DType.BFLOAT16, DType.FLOAT32.value: DType.FLOAT32}
"""Weight types whose blocks are searched."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """What the search runs on.

    Attributes:
        device: runs the candidates.
        recorder: times them.
        profile: ranks them before they run.
        options: how to compile.
        rows: numbers of rows of activations that count, each as much as the others.
        cold_bytes: the copies of a weight are together at least as large.
        measured_on: the day, YYYY-MM-DD.
    """

    device: CpuDevice
    recorder: LaunchRecorder
    profile: DeviceProfile
    options: CompileOptions
    rows: tuple[int, ...]
    cold_bytes: int
    measured_on: str


def linear_shapes(graph: Graph) -> list[LinearShape]:
    """The shapes of a captured graph's products with packed weights, each once."""
    before_tiling = graph
    for name, stage in stages(graph, TileOptions()):
        if name != "tile":
            before_tiling = stage
    found: dict[LinearShape, None] = {}
    for node in before_tiling.nodes():
        if node.op == "packed_dot" and node.args[1].dtype.value in TUNABLE:
            depth, columns = node.args[0].shape[-1], node.shape[-1]
            if isinstance(depth, int) and isinstance(columns, int):
                found[LinearShape(depth, columns, node.args[1].dtype.value)] = None
    return list(found)


def tune(
    shapes: Sequence[LinearShape], bench: Bench, progress: Progress | None = None
) -> Iterator[Finding]:
    """The best block of each shape, as soon as it is known."""
    say = progress or (lambda what, done, total: None)
    for number, shape in enumerate(shapes):
        say(f"linear {shape.depth} x {shape.columns} {shape.weight}", number, len(shapes))
        yield tune_shape(shape, bench)
    say("done", len(shapes), len(shapes))


def tune_shape(shape: LinearShape, bench: Bench) -> Finding:
    """Time the best-ranked blocks of one shape."""
    general = known_block(shape, bench)
    ranked = ranked_blocks(shape, bench.rows, bench.profile)[:BEST_TIMED]
    timings = time_blocks(shape, list(dict.fromkeys([general, *ranked])), bench)
    fastest = {m: min(dict(t.seconds)[m] for t in timings) for m in bench.rows}

    def loss(timing: Timing) -> float:
        return sum(seconds / fastest[m] for m, seconds in timing.seconds)

    return Finding(shape, min(timings, key=loss).block, tuple(timings), bench.measured_on)


def known_block(shape: LinearShape, bench: Bench) -> LinearBlock:
    """The block that is used without tuning: a candidate too, so that tuning never loses."""
    level = open_target(bench.device, bench.options).level.name
    general = TileOptions(row_block=rows_per_item(level), tuned=seed_blocks(level))
    return general.linear_block(shape)


def time_blocks(shape: LinearShape, blocks: Sequence[LinearBlock], bench: Bench) -> list[Timing]:
    """Seconds of one launch of each block, the median of several rounds, weights cold."""
    dtype = TUNABLE[shape.weight]
    copies = _copies(shape, dtype, bench.cold_bytes)
    graph = _layers(shape, dtype, copies, max(bench.rows))
    executables = [_compiled(graph, shape, block, bench) for block in blocks]
    times: dict[tuple[int, int], list[float]] = {}
    for round_number in range(ROUNDS + 1):
        for i, executable in enumerate(executables):
            for rows in bench.rows:
                seconds = _seconds(executable, shape, dtype, rows, bench)
                if round_number > 0:  # the first touches memory
                    times.setdefault((i, rows), []).append(seconds / copies)
    return [
        Timing(block, tuple((m, statistics.median(times[i, m])) for m in bench.rows))
        for i, block in enumerate(blocks)
    ]


def _copies(shape: LinearShape, dtype: DType, cold_bytes: int) -> int:
    weight = shape.depth * shape.columns * dtype.num_bytes
    return min(MOST_COPIES, max(2, -(-cold_bytes // weight)))


def _layers(shape: LinearShape, dtype: DType, copies: int, most_rows: int) -> Graph:
    """The same layer over one input, with as many weights."""
    builder = Builder()
    x = builder.input("x", TensorType((symbol("rows", 1, most_rows), shape.depth), dtype))
    kind = TensorType((shape.columns, shape.depth), dtype)
    weights = [builder.input(f"w{i}", kind, "weight") for i in range(copies)]
    results = [builder.add("dot", (x, w), transpose_b=True, dtype=dtype) for w in weights]
    outputs = tuple(Output(f"y{i}", node) for i, node in enumerate(results))
    return Graph("tune", (x, *weights), outputs)


class _SameWeight:
    """One array under every name: its values have no say in the time."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def names(self) -> tuple[str, ...]:
        return tuple(f"w{i}" for i in range(MOST_COPIES))

    def read(self, name: str) -> Array:
        return self._array

    def release(self, name: str) -> None:
        pass


def _compiled(graph: Graph, shape: LinearShape, block: LinearBlock, bench: Bench) -> Executable:
    options = replace(bench.options, tuned=((shape, block),))
    executable = compile_graph(graph, device=bench.device, target="cpp", options=options)
    dtype = TUNABLE[shape.weight].numpy
    random = np.random.default_rng(0).standard_normal((shape.columns, shape.depth), np.float32)
    executable.load_weights(_SameWeight(random.astype(dtype)))
    return executable


def _seconds(
    executable: Executable, shape: LinearShape, dtype: DType, rows: int, bench: Bench
) -> float:
    x = np.ones((rows, shape.depth), np.float32).astype(dtype.numpy)
    bench.recorder.clear()
    bench.device.record(bench.recorder)
    executable.run({"x": x})
    bench.device.record(None)
    return sum(launch.seconds for launch in bench.recorder.launches)
