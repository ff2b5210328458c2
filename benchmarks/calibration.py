"""Measure what the kinds of work of a step cost on a device: the rates predictions are made from.

Probes find weights and keys where a model would, in memory: products have more of them than fit
into a cache, and before attention something else is read. One pass runs every probe a few times;
several passes, spread over time, give medians, so that a slow moment of the machine meets all of
them. Runs no model; less than a minute of programs on two cores, and their compilation.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.compile import compile_graph
from banyan.compiler.executable import Executable
from banyan.compiler.ir.cached import CACHE_FORMATS
from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.types import DType
from banyan.compiler.options import CompileOptions
from banyan.devices.device import Device
from banyan.engine.cache.key_value_blocks import blocks_for
from banyan.foundation.errors import InputError
from banyan.models.quantisation.graph import quantize_graph
from banyan.models.quantisation.rounded import RoundingChoice
from banyan.planner.model_shape import bytes_per_number
from banyan.planner.prediction.rates import (
    AttentionPoint,
    DeviceRates,
    ElementwisePoint,
    LinearPoint,
)
from benchmarks.calibration_graphs import (
    attention_graph,
    norms_graph,
    output_graph,
    products_graph,
)
from benchmarks.calibration_values import AnyWeights, fill_states

Array = NDArray[Any]

_MOST_RUNS = 5
_ENOUGH_SECONDS = 0.05

PLAIN = {"float32": DType.FLOAT32, "bfloat16": DType.BFLOAT16}
"""Forms of weights that are the numbers themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationPlan:
    """What is measured.

    Attributes:
        forms: of weights: "bfloat16", "float32", "int8", "int4".
        cache_forms: of keys and values: "bfloat16", "int8", "int4", ...
        rows: of products.
        products: (columns, depth) of weights that rows go up and down through.
        cold_bytes: that a chain of products has at least; several times the last cache.
        outputs: (columns, depth) of output matrices.
        output_forms: its forms.
        heads: (query heads, key heads, numbers of a key).
        steps: (sequences, new tokens of each, cached tokens of each).
        repeats: caches that attention reads one after the other.
        widths: of rows that are normed.
        norms: how many norms follow each other.
    """

    forms: tuple[str, ...] = ("bfloat16", "int8", "int4")
    cache_forms: tuple[str, ...] = ("bfloat16", "int8", "int4")
    rows: tuple[int, ...] = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 1024)
    products: tuple[tuple[int, int], ...] = ((2560, 1024), (7168, 2048))
    cold_bytes: int = 80 << 20
    outputs: tuple[tuple[int, int], ...] = ((40_960, 1024), (40_960, 2048))
    output_forms: tuple[str, ...] = ("bfloat16", "int8")
    heads: tuple[tuple[int, int, int], ...] = ((8, 8, 128), (32, 8, 128), (32, 8, 64))
    steps: tuple[tuple[int, int, int], ...] = (
        (1, 1, 63),
        (1, 1, 1023),
        (1, 1, 8191),
        (12, 1, 63),
        (12, 1, 1023),
        (1, 64, 0),
        (1, 256, 0),
        (1, 1024, 0),
        (1, 2048, 0),
        (1, 256, 2048),
    )
    repeats: int = 2
    widths: tuple[int, ...] = (768, 3072)
    norms: int = 32
    most_output_rows: int = 128


@dataclass(slots=True)
class _Probe:
    """One run to time.

    Attributes:
        executable: what runs.
        arguments: of the run.
        told: makes points of the seconds of a run, start of the program taken off.
        before: what runs before each run, so that caches hold other things; None: itself does.
        num_bytes: of weights or keys that a run reads from memory.
        expected: seconds of the very first run.
        seconds: of each pass.
        references: seconds of the reference beside them.
    """

    executable: Executable
    arguments: Mapping[str, Array]
    told: Callable[[float], list[Any]]
    before: "_Probe | None" = None
    num_bytes: float = 0.0
    expected: float = 0.0
    seconds: list[float] = field(default_factory=list)
    references: list[float] = field(default_factory=list)

    def once(self) -> float:
        """Seconds of one run."""
        began = time.perf_counter()
        self.executable.run(self.arguments)
        return time.perf_counter() - began

    def run(self) -> None:
        """Note the median of a few runs; those that take long are run once."""
        found: list[float] = []
        is_short = self.expected < _ENOUGH_SECONDS
        first = self.once() if self.before is None and is_short else self.expected
        while not found or (len(found) < _MOST_RUNS and first + sum(found) < _ENOUGH_SECONDS):
            if self.before is not None:
                self.before.once()
            found.append(self.once())
        self.seconds.append(statistics.median(found))

    def steadied(self, reference: "Reference") -> float:
        """Median of the passes, as if memory had been equally fast in all."""
        pairs = zip(self.seconds, self.references, strict=True)
        return statistics.median(reference.steadied(s, r, self.num_bytes) for s, r in pairs)


@dataclass(frozen=True, slots=True)
class Reference:
    """A run that only reads memory, as it went in the middle of all passes.

    Attributes:
        seconds: median.
        num_bytes: read.
    """

    seconds: float
    num_bytes: float

    def steadied(self, seconds: float, beside: float, num_bytes: float) -> float:
        """What a run would have taken had the memory been as fast as in the middle.

        `beside` is what the reference took right before and after. The share of the run that
        reading its bytes accounts for is taken to be slower or faster just as the reference was.
        """
        share = min(1.0, num_bytes / self.num_bytes * beside / seconds)
        return seconds * (1.0 - share + share * self.seconds / beside)


@dataclass(slots=True)
class Calibration:
    """Probes of one device, compiled, with what they took so far.

    Attributes:
        compile_seconds: what getting ready took.
        run_seconds: what all passes took.
    """

    device: Device
    probes: list[_Probe] = field(default_factory=list)
    starts: list[_Probe] = field(default_factory=list)
    compile_seconds: float = 0.0
    run_seconds: float = 0.0

    def run_pass(self) -> None:
        """Run every probe once more."""
        began = time.perf_counter()
        for probe in (*self.starts, *self.probes):
            before = self.beside()
            probe.run()
            probe.references.append((before + self.beside()) / 2)
        self.run_seconds += time.perf_counter() - began

    def beside(self) -> float:
        """What reading memory takes now: seconds of the first probe, the second of two runs."""
        self.probes[0].once()
        return self.probes[0].once()

    def reference(self) -> Reference:
        """How fast memory was in the middle of all passes."""
        found = [seconds for probe in self.probes for seconds in probe.references]
        return Reference(statistics.median(found), self.probes[0].num_bytes)

    def rates(
        self, name: str, *, vendor: str, memory_bytes: int, read_bytes_per_second: float
    ) -> DeviceRates:
        """The medians of all passes.

        Raises:
            InputError: no pass was run.
        """
        if not self.probes or not self.probes[0].seconds:
            raise InputError(f"device {name} was not measured yet; run at least one pass")
        start = min(statistics.median(probe.seconds) for probe in self.starts)
        reference = self.reference()
        points = [
            point
            for probe in self.probes
            for point in probe.told(max(1e-9, probe.steadied(reference) - start))
        ]
        return DeviceRates(
            device=name,
            vendor=vendor,
            memory_bytes=memory_bytes,
            read_bytes_per_second=read_bytes_per_second,
            program_seconds=start,
            linear=tuple(p for p in points if isinstance(p, LinearPoint)),
            attention=tuple(p for p in points if isinstance(p, AttentionPoint)),
            elementwise=tuple(p for p in points if isinstance(p, ElementwisePoint)),
            seconds_spent=self.compile_seconds + self.run_seconds,
        )


def open_calibration(device: Device, plan: CalibrationPlan, options: CompileOptions) -> Calibration:
    """Compile all probes and give them weights; nothing is timed yet."""
    began = time.perf_counter()
    made = Calibration(device)
    maker = _Maker(device, plan, options)
    made.starts = list(maker.starts())
    products = list(maker.products())
    made.probes = [*products, *maker.norms(), *maker.attention(products[0])]
    for probe in (*made.starts, *made.probes):
        probe.expected = probe.once()
    made.compile_seconds = time.perf_counter() - began
    return made


@dataclass(frozen=True, slots=True)
class _Maker:
    device: Device
    plan: CalibrationPlan
    options: CompileOptions

    def starts(self) -> Iterator[_Probe]:
        """A program that does next to nothing: one norm of one short row."""
        made = self.compiled(norms_graph(64, 1, DType.BFLOAT16))
        rows = _rows(1, 64, DType.BFLOAT16)
        yield _Probe(made, {"rows": rows}, lambda seconds: [])

    def products(self) -> Iterator[_Probe]:
        """Rows in the outer loop, so that runs of one program lie far apart."""
        stacks = [stack for form in self.plan.forms for stack in self.stacks(form)]
        for rows in self.plan.rows:
            for form, shapes, executable in stacks:
                if len(shapes) == 1 and rows > self.plan.most_output_rows:
                    continue
                depth, dtype = shapes[0][1], PLAIN.get(form, DType.BFLOAT16)
                told = _LinearPoints(form, rows, shapes)
                read = bytes_per_number(form) * sum(n * k for n, k in shapes)
                given = {"rows": _rows(rows, depth, dtype)}
                yield _Probe(executable, given, told, num_bytes=read)

    def stacks(self, form: str) -> Iterator[tuple[str, list[tuple[int, int]], Executable]]:
        dtype = PLAIN.get(form, DType.BFLOAT16)
        for columns, depth in self.plan.products:
            pair = 2 * columns * depth * bytes_per_number(form)
            repeats = ceil(self.plan.cold_bytes / pair)
            graph = products_graph(columns, depth, repeats, dtype)
            shapes = [(columns, depth), (depth, columns)] * repeats
            yield form, shapes, self.compiled(_rounded(graph, form))
        for columns, depth in self.plan.outputs if form in self.plan.output_forms else ():
            graph = output_graph(columns, depth, dtype)
            yield form, [(columns, depth)], self.compiled(_rounded(graph, form))

    def norms(self) -> Iterator[_Probe]:
        for width in self.plan.widths:
            made = self.compiled(norms_graph(width, self.plan.norms, DType.BFLOAT16))
            launches = max(1, made.report.num_launches)
            for rows in self.plan.rows[::3]:
                told = _ElementwisePoints(2 * rows * width * DType.BFLOAT16.num_bytes, launches)
                values = _rows(rows, width, DType.BFLOAT16)
                yield _Probe(made, {"rows": values}, told)

    def attention(self, before: _Probe) -> Iterator[_Probe]:
        """Before each run the weights of the probe `before` are read."""
        made = [
            (name, shape, self.attending(name, shape))
            for name in self.plan.cache_forms
            for shape in self.plan.heads
        ]
        for step in self.plan.steps:
            for name, shape, executable in made:
                arguments = _attention_arguments(shape, step, PLAIN.get(name, DType.BFLOAT16))
                told = _AttentionPoints(name, shape, step, self.plan.repeats)
                row = 2 * shape[1] * CACHE_FORMATS[name].row_bytes(shape[2])
                read = float(self.plan.repeats * step[0] * (step[1] + step[2]) * row)
                yield _Probe(executable, arguments, told, before, num_bytes=read)

    def attending(self, name: str, shape: tuple[int, int, int]) -> Executable:
        form, dtype = CACHE_FORMATS[name], PLAIN.get(name, DType.BFLOAT16)
        made = self.compiled(attention_graph(*shape, form, self.plan.repeats, dtype))
        blocks = max(s * blocks_for(new + past) for s, new, past in self.plan.steps)
        fill_states(made, blocks)
        return made

    def compiled(self, graph: Graph) -> Executable:
        executable = compile_graph(graph, device=self.device, options=self.options)
        executable.load_weights(AnyWeights(executable))
        return executable


@dataclass(frozen=True, slots=True)
class _LinearPoints:
    form: str
    rows: int
    shapes: list[tuple[int, int]]

    def __call__(self, seconds: float) -> list[LinearPoint]:
        """Every product of the program, each with its share by its size."""
        whole = sum(columns * depth for columns, depth in self.shapes)
        return [
            LinearPoint(self.form, self.rows, columns, depth, seconds * columns * depth / whole)
            for columns, depth in dict.fromkeys(self.shapes)
        ]


@dataclass(frozen=True, slots=True)
class _ElementwisePoints:
    num_bytes: int
    launches: int

    def __call__(self, seconds: float) -> list[ElementwisePoint]:
        """One kernel of the program."""
        return [ElementwisePoint(self.num_bytes, seconds / self.launches)]


@dataclass(frozen=True, slots=True)
class _AttentionPoints:
    form: str
    shape: tuple[int, int, int]
    step: tuple[int, int, int]
    repeats: int

    def __call__(self, seconds: float) -> list[AttentionPoint]:
        """One layer of the program."""
        return [AttentionPoint(self.form, *self.shape, *self.step, seconds / self.repeats)]


def _rounded(graph: Graph, form: str) -> Graph:
    """The graph with its weights in another form."""
    if form in PLAIN:
        return graph
    return quantize_graph(graph, RoundingChoice(form, keep=()).schemes(graph))


def _rows(count: int, width: int, dtype: DType) -> Array:
    noise = np.random.default_rng(count).standard_normal((count, width))
    return noise.astype(dtype.numpy)


def _attention_arguments(
    shape: tuple[int, int, int], step: tuple[int, int, int], dtype: DType
) -> dict[str, Array]:
    """Sequences of one length, each with blocks of its own."""
    (heads, _, size), (sequences, new, past) = shape, step
    blocks = blocks_for(new + past)
    query = _rows(sequences * new, heads * size, dtype).reshape(sequences * new, heads, size)
    return {
        "query": query,
        "block_tables": np.arange(sequences * blocks, dtype=np.int32).reshape(sequences, blocks),
        "query_starts": np.arange(sequences + 1, dtype=np.int32) * new,
        "context_lengths": np.full(sequences, new + past, np.int32),
    }
