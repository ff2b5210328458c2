"""Rates of compiled programs on one device, bucket by bucket; see `devices.rates`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.compile import compile_graph
from banyan.compiler.executable import Executable
from banyan.compiler.ir.cached import CACHE_BLOCK
from banyan.compiler.ir.graph import Graph
from banyan.compiler.options import CompileOptions
from banyan.devices.device import Device
from banyan.devices.rates import DecodeRate, LinearRate, PrefillRate, RowRate
from banyan.engine.workbench.measuring.effort import ProgramEffort
from banyan.engine.workbench.measuring.graphs import (
    INT4_GROUP,
    AttentionChain,
    LinearChain,
    NormChain,
    activation_dtype,
)
from banyan.engine.workbench.measuring.operands import (
    RandomWeights,
    attention_step,
    fill_caches,
)
from banyan.engine.workbench.measuring.stopwatch import Stopwatch

Array = NDArray[Any]
Say = Callable[[str], None]

BYTES_OF_WEIGHT: Mapping[str, float] = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "int8": 1.0,
    "int4": 0.5 + 4.0 / INT4_GROUP,
}
"""Scales of int4 included; those of int8, one for a column, are lost in it."""

_MOST_PAIRS = 24
_LAYERS = 4
_SMALL = 64
_MANY = 32


@dataclass(frozen=True, slots=True)
class Overhead:
    """Attributes:
    run_seconds: of starting a program, before its first kernel.
    kernel_seconds: of one more kernel, beside its work.
    """

    run_seconds: float
    kernel_seconds: float

    def of_one(self, seconds: float, kernels: int) -> float:
        """Seconds of the work of one kernel of a run with so many."""
        share = seconds / kernels
        work = (seconds - self.run_seconds) / kernels - self.kernel_seconds
        # What is small beside its overhead is known no better than this.
        return max(work, 0.1 * share)


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every measurement needs.

    Attributes:
        device: runs the programs.
        options: how they are compiled.
        effort: how thoroughly.
        say: told what is measured.
    """

    device: Device
    options: CompileOptions
    effort: ProgramEffort
    say: Say

    @property
    def stopwatch(self) -> Stopwatch:
        """Within the effort's limits."""
        return Stopwatch(self.effort.seconds, self.effort.rounds)

    def compiled(self, graph: Graph) -> Executable:
        """Compile for the device and load weights."""
        executable = compile_graph(graph, device=self.device, options=self.options)
        executable.load_weights(RandomWeights(executable))
        return executable

    def seconds(self, executable: Executable, arguments: Mapping[str, Array]) -> float:
        """Median seconds of a run."""
        return self.stopwatch.median(lambda _: executable.run(arguments))


def measure_overhead(shop: Workshop) -> Overhead:
    """Compare a program of two small linear layers with one of many."""
    shop.say("starting programs and kernels")
    taken = []
    for pairs in (1, _MANY):
        chain = LinearChain("float32", _SMALL, _SMALL, pairs)
        x = np.ones((1, _SMALL), np.float32)
        taken.append(shop.seconds(shop.compiled(chain.graph(most_rows=4)), {"x": x}))
    few, many = taken
    each = max(0.0, (many - few) / (2 * (_MANY - 1)))
    return Overhead(max(0.0, few - 2 * each), each)


def linear_rates(shop: Workshop, overhead: Overhead) -> Iterator[LinearRate]:
    """Linear layers of every format and number of rows."""
    effort = shop.effort
    for weights in effort.formats:
        chain = _linear_chain(weights, effort)
        executable = shop.compiled(chain.graph(max(effort.rows)))
        dtype, done = activation_dtype(weights), list[tuple[float, float]]()
        for rows in effort.rows:
            if shop.stopwatch.grows_too_long(done, rows):
                continue
            shop.say(f"{weights} linear layers, {rows} row(s)")
            x = np.ones((rows, chain.depth), np.float32).astype(dtype.numpy)
            seconds = shop.seconds(executable, {"x": x})
            done.append((rows, seconds))
            each = overhead.of_one(seconds, 2 * chain.pairs)
            yield LinearRate(
                weights=weights,
                activations="float32" if weights == "float32" else "bfloat16",
                rows=rows,
                depth=chain.depth,
                columns=chain.columns,
                group=chain.group,
                weights_per_second=chain.depth * chain.columns / each,
            )


def _linear_chain(weights: str, effort: ProgramEffort) -> LinearChain:
    """As many layers as do not fit in the caches."""
    pair_bytes = 2 * effort.depth * effort.columns * BYTES_OF_WEIGHT[weights]
    pairs = min(_MOST_PAIRS, max(1, round(effort.cold_bytes / pair_bytes)))
    return LinearChain(weights, effort.depth, effort.columns, pairs)


def attention_rates(
    shop: Workshop, overhead: Overhead
) -> Iterator[tuple[list[DecodeRate], list[PrefillRate]]]:
    """Attention over every format of cache: single tokens, and prompts."""
    effort = shop.effort
    for cache in effort.caches:
        chain = AttentionChain(
            cache, effort.query_heads, effort.key_heads, effort.head_size, _LAYERS
        )
        num_blocks = effort.cold_bytes // (chain.token_bytes * _LAYERS * CACHE_BLOCK)
        needed = [context for _, context in effort.prompts]
        num_blocks = max(num_blocks, *(-(-c // CACHE_BLOCK) for c in (*effort.contexts, *needed)))
        bench = _AttentionBench(shop, overhead, chain, num_blocks, shop.compiled(chain.graph()))
        fill_caches(bench.executable, num_blocks)
        yield list(bench.decode_rates()), list(bench.prefill_rates())


@dataclass(frozen=True, slots=True)
class _AttentionBench:
    """One format of cache: a program and its caches."""

    shop: Workshop
    overhead: Overhead
    chain: AttentionChain
    num_blocks: int
    executable: Executable

    def decode_rates(self) -> Iterator[DecodeRate]:
        chain, done = self.chain, list[tuple[float, float]]()
        shapes = ((s, c) for s in self.shop.effort.sequences for c in self.shop.effort.contexts)
        for sequences, context in sorted(shapes, key=lambda shape: shape[0] * shape[1]):
            tokens = sequences * context
            if tokens > self.num_blocks * CACHE_BLOCK:
                continue
            if self.shop.stopwatch.grows_too_long(done, tokens):
                continue
            self.shop.say(f"{chain.cache} cache, {sequences} x {context} tokens")
            seconds = self._seconds(new=1, context=context, sequences=sequences)
            done.append((tokens, seconds))
            each = self.overhead.of_one(seconds, chain.layers)
            yield DecodeRate(
                cache=chain.cache,
                sequences=sequences,
                context=context,
                query_heads=chain.query_heads,
                head_size=chain.head_size,
                bytes_per_second=tokens * chain.token_bytes / each,
            )

    def prefill_rates(self) -> Iterator[PrefillRate]:
        chain, done = self.chain, list[tuple[float, float]]()
        of_pair = 4.0 * chain.head_size * chain.query_heads * chain.key_heads
        sized = ((n * (c - n) + n * (n + 1) / 2, n, c) for n, c in self.shop.effort.prompts)
        for pairs, tokens, context in sorted(sized):
            if self.shop.stopwatch.grows_too_long(done, pairs):
                continue
            self.shop.say(f"{chain.cache} cache, a prompt of {tokens} tokens ending at {context}")
            seconds = self._seconds(new=tokens, context=context, sequences=1)
            done.append((pairs, seconds))
            each = self.overhead.of_one(seconds, chain.layers)
            yield PrefillRate(
                cache=chain.cache,
                tokens=tokens,
                context=context,
                query_heads=chain.query_heads,
                head_size=chain.head_size,
                operations_per_second=of_pair * pairs / each,
            )

    def _seconds(self, *, new: int, context: int, sequences: int) -> float:
        chain = self.chain
        shape = (new * sequences, chain.query_heads * chain.key_heads, chain.head_size)
        queries = np.ones(shape, np.float32).astype(activation_dtype(chain.cache).numpy)
        step = sequences * -(-context // CACHE_BLOCK)

        def run(number: int) -> None:
            where = attention_step(
                new=new,
                context=context,
                sequences=sequences,
                first_block=number * step,
                num_blocks=self.num_blocks,
            )
            self.executable.run({"queries": queries, **where})

        return self.shop.stopwatch.median(run)


def row_rates(shop: Workshop, overhead: Overhead) -> Iterator[RowRate]:
    """Residual sums with norms, by rows."""
    effort = shop.effort
    for activations in ("float32", "bfloat16"):
        chain = NormChain(activations, effort.depth, _MANY)
        executable = shop.compiled(chain.graph(max(effort.rows)))
        for rows in effort.rows:
            shop.say(f"{activations} norms, {rows} row(s)")
            x = np.ones((rows, chain.width), np.float32)
            x = x.astype(activation_dtype(activations).numpy)
            seconds = shop.seconds(executable, {"x": x, "y": x})
            each = overhead.of_one(seconds, chain.layers)
            rate = rows * chain.width / each
            yield RowRate("norm", activations, rows, chain.width, rate)
