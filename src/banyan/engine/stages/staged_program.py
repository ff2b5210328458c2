"""A step that several places compute, as the engine knows a step: an `Executable`.

Whoever holds one need not know: runs, states and their parts go to the place that has them. So
prefix cache, grammars, drafts and all else of the engine work as over one device.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import final

from banyan.compiler.cutting.segments import Segment
from banyan.compiler.cutting.shards import ShardedGraph, ShardedWeights
from banyan.compiler.executable import Argument, Array, Executable, Progress, WeightSource
from banyan.compiler.interpreted import graph_arguments, graph_outputs
from banyan.compiler.ir.graph import Graph
from banyan.compiler.report import CompileReport
from banyan.engine.stages.part import NumberedSegment, Part
from banyan.foundation.errors import BanyanError


@dataclass(frozen=True, slots=True)
class _Work:
    """One segment in the order of a step.

    Attributes:
        number: of the segment.
        part: who computes it.
        received: values of other places that it takes -> the segments that give them.
        is_first: whether it is the first at its place.
        arguments: of the step, that the place reads; for the first only.
    """

    number: int
    part: Part
    received: Mapping[str, int]
    is_first: bool
    arguments: tuple[str, ...]


@final
class StagedProgram(Executable):
    """Runs the segments of a graph on their parts."""

    def __init__(
        self,
        sharded: ShardedGraph,
        segments: Sequence[NumberedSegment],
        parts: Mapping[str, Part],
    ) -> None:
        """Take parts that hold the compiled segments.

        Args:
            sharded: the whole.
            segments: in the order in which they can run.
            parts: by place.
        """
        graph = sharded.graph
        reports = [report for part in parts.values() for report in part.reports]
        report = joined_report(graph.name, reports)
        super().__init__(graph_arguments(graph), graph_outputs(graph), report)
        self._parts = dict(parts)
        self._shards = sharded.shards
        self._work = _in_order([numbered.segment for numbered in segments], parts)
        self._owners = {
            str(node.attr("name")): parts[numbered.segment.place]
            for numbered in segments
            for node in numbered.segment.graph.inputs
            if node.attr("role") == "state"
        }

    def load_weights(self, source: WeightSource, progress: Progress | None = None) -> None:
        """As the base says; every part reads its own, all at once."""
        ranks = ShardedWeights(source, self._shards) if self._shards else source
        with ThreadPoolExecutor(len(self._parts)) as threads:
            loading = [threads.submit(p.load_weights, ranks) for p in self._parts.values()]
            for done, future in enumerate(loading, start=1):
                future.result()
                if progress is not None:
                    progress(done, len(loading))
        for place, argument in enumerate(self.inputs):
            if argument.role == "weight":
                self._missing.pop(place, None)

    def allocate_state(self, symbol_values: Mapping[str, int]) -> None:
        """As the base says."""
        super().allocate_state(symbol_values)
        for part in self._parts.values():
            part.allocate_state(self._sizes)

    def step_bytes(self, most: Mapping[str, int]) -> int:
        """As the base says; of all parts together."""
        return sum(part.step_bytes(most) for part in self._parts.values())

    def close(self) -> None:
        """End the parts."""
        for part in self._parts.values():
            part.close()

    def _load(self, place: int, array: Array) -> None:
        raise NotImplementedError("parts read their own weights")

    def _allocate(self, place: int) -> None:
        """The parts do, all their states at once."""

    def _write(self, place: int, value: Array) -> None:
        name = self.inputs[place].name
        self._owners[name].write_state(name, value)

    def _write_part(self, place: int, index: int, value: Array) -> None:
        name = self.inputs[place].name
        self._owners[name].write_state_part(name, index, value)

    def _read_part(self, place: int, index: int, part: Argument) -> Array:
        name = self.inputs[place].name
        return self._owners[name].read_state_part(name, index)

    def _run(self, arguments: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        del sizes
        run = _Run(arguments)
        try:
            for work in self._work:
                run.finish(set(work.received.values()))
                run.begin(work)
            run.finish({work.number for work in self._work})
        except BaseException:
            run.abandon()
            raise
        return {output.name: run.found[output.name] for output in self.outputs}


class _Run:
    """One step under way."""

    def __init__(self, arguments: Mapping[str, Array]) -> None:
        self.found: dict[str, Array] = {}
        self._arguments = arguments
        self._begun: deque[_Work] = deque()
        self._finished: set[int] = set()

    def begin(self, work: _Work) -> None:
        """Hand a segment what it needs; what it takes of other places is there."""
        arrays = {name: self.found[name] for name in work.received}
        arrays |= {name: self._arguments[name] for name in work.arguments}
        work.part.begin(work.number, arrays, is_first=work.is_first)
        self._begun.append(work)

    def finish(self, numbers: set[int]) -> None:
        """Wait until these segments are done; a part answers in the order it was asked."""
        while numbers - self._finished:
            work = self._begun.popleft()
            self.found.update(work.part.finish())
            self._finished.add(work.number)

    def abandon(self) -> None:
        """Read what parts still owe, so that the next step does not take it for its own."""
        while self._begun:
            with suppress(BanyanError):
                self._begun.popleft().part.finish()


def number_segments(
    graph: Graph, segments: Sequence[Segment], titles: Mapping[int, str]
) -> tuple[NumberedSegment, ...]:
    """Say of each segment what others need of it."""
    results = {output.name for output in graph.outputs if output.updates is None}
    wanted: dict[str, set[str]] = {segment.place: set(results) for segment in segments}
    for segment in segments:
        for name, place in segment.received.items():
            if place != segment.place:
                wanted[place].add(name)
    return tuple(
        NumberedSegment(
            number,
            segment,
            tuple(name for name in segment.given if name in wanted[segment.place]),
            titles.get(number, f"segment {number}"),
        )
        for number, segment in enumerate(segments)
    )


def _in_order(segments: Sequence[Segment], parts: Mapping[str, Part]) -> tuple[_Work, ...]:
    arguments: dict[str, dict[str, None]] = {segment.place: {} for segment in segments}
    for segment in segments:
        for node in segment.graph.inputs:
            name = str(node.attr("name"))
            if node.attr("role") == "argument" and name not in segment.received:
                arguments[segment.place][name] = None
    makers = {
        (segment.place, name): number
        for number, segment in enumerate(segments)
        for name in segment.given
    }
    seen: set[str] = set()
    found = []
    for number, segment in enumerate(segments):
        is_first = segment.place not in seen
        seen.add(segment.place)
        received = {
            name: makers[place, name]
            for name, place in segment.received.items()
            if place != segment.place
        }
        needed = tuple(arguments[segment.place]) if is_first else ()
        found.append(_Work(number, parts[segment.place], received, is_first, needed))
    return tuple(found)


def joined_report(name: str, reports: Sequence[CompileReport]) -> CompileReport:
    """What compiling several programs did, as one."""
    targets = dict.fromkeys(report.target for report in reports)
    sets = dict.fromkeys(report.instruction_set for report in reports)
    return CompileReport(
        name=name,
        target=" + ".join(targets),
        instruction_set=" + ".join(sets),
        num_nodes=sum(report.num_nodes for report in reports),
        num_kernels=sum(report.num_kernels for report in reports),
        num_launches=sum(report.num_launches for report in reports),
        externs=tuple(use for report in reports for use in report.externs),
        weight_bytes=sum(report.weight_bytes for report in reports),
        arena_bytes=sum(report.arena_bytes for report in reports),
        scratch_bytes=max(report.scratch_bytes for report in reports),
        seconds=max(report.seconds for report in reports),
        cached=all(report.cached for report in reports),
    )
