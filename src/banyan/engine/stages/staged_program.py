"""A step that several places compute, as the engine knows a step: an `Executable`.

Whoever holds one need not know: runs, states and their parts go to the place that has them. So
prefix cache, grammars, drafts and all else of the engine work as over one device. Workers hand
values to each other; the engine tells them what a step reads and hears its results, and computes
what is in its own process while it begins or finishes a step.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np

from banyan.compiler.cutting.segments import Segment
from banyan.compiler.cutting.shards import Shard, ShardedGraph, ShardedWeights
from banyan.compiler.executable import (
    Argument,
    Array,
    Executable,
    PendingRun,
    Progress,
    WeightSource,
    check_state,
)
from banyan.compiler.interpreted import graph_arguments, graph_outputs
from banyan.compiler.ir.graph import Graph
from banyan.compiler.report import CompileReport
from banyan.distributed.channel import Message
from banyan.engine.stages.inbox import Key
from banyan.engine.stages.links import Links
from banyan.engine.stages.part import ENGINE, LocalPart, NumberedSegment, Part
from banyan.engine.stages.rehearsal import Rehearsal
from banyan.engine.stages.remote_part import RemotePart
from banyan.engine.stages.segment_runner import SegmentRunner
from banyan.foundation.errors import ChannelError, InputError, StageFailed


@final
class StagedProgram(Executable):
    """Runs the segments of a graph on their parts."""

    def __init__(
        self,
        sharded: ShardedGraph,
        segments: Sequence[NumberedSegment],
        parts: Mapping[str, Part],
        *,
        num_in_flight: int = 1,
    ) -> None:
        """Take parts that hold the compiled segments; their workers have met.

        Args:
            sharded: the whole.
            segments: in the order in which they can run.
            parts: by place.
            num_in_flight: see `Executable`.
        """
        graph = sharded.graph
        reports = [report for part in parts.values() for report in part.reports]
        report = joined_report(graph.name, reports)
        super().__init__(graph_arguments(graph), graph_outputs(graph), report)
        self._parts = dict(parts)
        self._shards = sharded.shards
        self._num_in_flight = num_in_flight
        self._workers = {p: part for p, part in parts.items() if isinstance(part, RemotePart)}
        self._rehearsal = Rehearsal() if self._workers else None
        self._links = Links(
            {place: worker.channel for place, worker in self._workers.items()},
            rehearse=None if self._rehearsal is None else self._rehearsal.run,
        )
        for place, worker in self._workers.items():
            worker.on_unasked = self._hear_unasked
            worker.send = partial(self._links.send, place)
        self._read = _arguments_read(segments)
        inline = {p: part for p, part in parts.items() if isinstance(part, LocalPart)}
        self._runner = SegmentRunner(
            inline,
            [n for n in segments if n.segment.place in inline],
            self._give,
            results=_results(segments, [output.name for output in self.outputs]),
            has_several_steps=num_in_flight > 1,
        )
        self._busy_there: dict[str, float] = {}
        self._num_begun = 0
        self._fault: InputError | StageFailed | None = None
        self._holders = _holders(segments, parts)
        self._ranks = _parts_of_states(sharded)

    @property
    def num_in_flight(self) -> int:
        """As the base says."""
        return self._num_in_flight

    @property
    def busy_seconds(self) -> Mapping[str, float]:
        """How long each place has computed; what workers said last, so half a second old."""
        return {**self._runner.busy_seconds, **self._busy_there}

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

    def write_state_part(self, name: str, index: int, value: Array) -> None:
        """As the base says; of a state that lies in parts each gets its own places."""
        ranks = self._ranks.get(name)
        if ranks is None:
            super().write_state_part(name, index, value)
            return
        for part, shard in ranks.items():
            own = (slice(None),) * (shard.axis - 1) + (slice(shard.start, shard.stop),)
            super().write_state_part(part, index, np.ascontiguousarray(value[own]))

    def read_state_parts(
        self, names: Collection[str], indices: Sequence[int]
    ) -> Mapping[str, Array]:
        """As the base says; every part is asked once."""
        asked: dict[str, list[str]] = {}
        for name in names:
            for index in indices:
                self._part_of_state(name, index)
            asked.setdefault(self._holders[name][0].place, []).append(name)
        found: dict[str, Array] = {}
        for place, own in asked.items():
            found |= self._parts[place].read_state_parts(own, indices)
        return found

    def write_state_parts(self, values: Mapping[str, Array], indices: Sequence[int]) -> None:
        """As the base says; every part is told once."""
        told: dict[str, dict[str, Array]] = {}
        for name, value in values.items():
            if name in self._ranks:
                super().write_state_parts({name: value}, indices)
                continue
            for index, entry in zip(indices, value, strict=True):
                check_state(self._part_of_state(name, index)[1], {}, entry)
            for part in self._holders[name]:
                told.setdefault(part.place, {})[name] = value
        for place, own in told.items():
            self._parts[place].write_state_parts(own, indices)

    def step_bytes(self, most: Mapping[str, int]) -> int:
        """As the base says; of all parts together."""
        return sum(part.step_bytes(most) for part in self._parts.values())

    def close(self) -> None:
        """End the parts."""
        if self._rehearsal is not None:
            self._rehearsal.close()
        for part in self._parts.values():
            part.close()

    def _load(self, place: int, array: Array) -> None:
        raise NotImplementedError("parts read their own weights")

    def _allocate(self, place: int) -> None:
        """The parts do, all their states at once."""

    def _write(self, place: int, value: Array) -> None:
        name = self.inputs[place].name
        for part in self._holders[name]:
            part.write_state(name, value)

    def _write_part(self, place: int, index: int, value: Array) -> None:
        name = self.inputs[place].name
        for part in self._holders[name]:
            part.write_state_parts({name: value[None]}, [index])

    def _read_part(self, place: int, index: int, part: Argument) -> Array:
        name = self.inputs[place].name
        entries = self._holders[name][0].read_state_parts([name], [index])[name]
        return entries.reshape(entries.shape[1:])

    def _run(self, arguments: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        return dict(self._begin(arguments, sizes).finish())

    def _begin(self, arguments: Mapping[str, Array], sizes: Mapping[str, int]) -> PendingRun:
        del sizes
        self._check_sound()
        self._num_begun += 1
        step = self._num_begun
        try:
            for place, worker in self._workers.items():
                worker.begin(step, {name: arguments[name] for name in self._read[place]})
            self._runner.begin(step, arguments)
            while self._hear_next(0) or self._runner.run_next():
                pass
        except (InputError, StageFailed) as error:
            self._fault = _again(error)
            raise
        return _StagedRun(self, step)

    def finish(self, step: int) -> Mapping[str, Array]:
        """Wait for the results of a step; for its `PendingRun`."""
        self._check_sound()
        results = self._runner.results
        try:
            while step not in results:
                # What came decides what runs next; only with nothing to run is it worth to wait.
                if not (self._hear_next(0) or self._runner.run_next()):
                    self._hear_next(None)
        except (InputError, StageFailed) as error:
            self._fault = _again(error)
            raise
        return results.pop(step)

    def _hear_next(self, seconds: float | None) -> bool:
        """Take in what a worker says; False when none said anything in that time."""
        arrival = self._links.receive(seconds)
        if arrival is None:
            return False
        if isinstance(arrival.content, ChannelError):
            raise self._workers[arrival.name].gone(arrival.content)
        self._hear(arrival.name, arrival.content)
        return True

    def _hear(self, place: str, message: Message) -> None:
        fields: Any = message.fields
        if message.kind == "values":
            self._runner.receive(place, fields["step"], message.arrays)
        elif message.kind == "busy":
            self._busy_there[place] = fields["seconds"]
        elif message.kind == "lost":
            raise self._workers[fields["place"]].gone(
                f"says the worker of {place}: {fields['message']}"
            )
        else:
            raise self._workers[place].failure(message)

    def _hear_unasked(self, place: str, message: Message) -> None:
        """What a worker says before its answer, which comes all the same.

        A fault ends the steps under way when they are asked for; nobody says it again.
        """
        try:
            self._hear(place, message)
        except (InputError, StageFailed) as error:
            self._fault = self._fault or _again(error)

    def _give(self, source: str, place: str, step: int, values: Mapping[str, Array]) -> None:
        self._workers[place].give(source, step, values)

    def _check_sound(self) -> None:
        """After a fault nobody knows which segments have run: states hold half a step."""
        if self._fault is not None:
            raise _again(self._fault)


@dataclass(frozen=True, slots=True)
class _StagedRun:
    """One step under way."""

    program: StagedProgram
    step: int

    def finish(self) -> Mapping[str, Array]:
        """See `PendingRun`."""
        return self.program.finish(self.step)


def _again(error: InputError | StageFailed) -> InputError | StageFailed:
    """The same error without what it was raised from, and the memory that keeps."""
    if isinstance(error, StageFailed):
        return StageFailed(str(error), place=error.place, is_silent=error.is_silent)
    return InputError(str(error))


def _holders(
    segments: Sequence[NumberedSegment], parts: Mapping[str, Part]
) -> Mapping[str, Sequence[Part]]:
    """Who keeps each state: one, or all that read one that steps do not write."""
    found: dict[str, list[Part]] = {}
    for numbered in segments:
        part = parts[numbered.segment.place]
        for node in numbered.segment.graph.inputs:
            holders = found.setdefault(str(node.attr("name")), [])
            if node.attr("role") == "state" and part not in holders:
                holders.append(part)
    return found


def _parts_of_states(sharded: ShardedGraph) -> Mapping[str, Mapping[str, Shard]]:
    """State that lies in parts and is written from outside -> its parts."""
    states = {str(n.attr("name")) for n in sharded.graph.inputs if n.attr("role") == "state"}
    found: dict[str, dict[str, Shard]] = {}
    for name in states & sharded.shards.keys():
        shard = sharded.shards[name]
        found.setdefault(shard.name, {})[name] = shard
    return found


def number_segments(
    graph: Graph, segments: Sequence[Segment], titles: Mapping[int, str]
) -> tuple[NumberedSegment, ...]:
    """Say of each segment what others need of it."""
    results = {output.name for output in graph.outputs if output.updates is None}
    takers: dict[tuple[str, str], dict[str, None]] = {}
    for segment in segments:
        for name, source in segment.received.items():
            if source != segment.place:
                takers.setdefault((source, name), {})[segment.place] = None
    return tuple(
        NumberedSegment(
            number,
            segment,
            _sent(segment, results, takers),
            titles.get(number, f"segment {number}"),
        )
        for number, segment in enumerate(segments)
    )


def _sent(
    segment: Segment, results: set[str], takers: Mapping[tuple[str, str], Mapping[str, None]]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name in segment.given:
        if name in results:
            found.setdefault(ENGINE, []).append(name)
        for place in takers.get((segment.place, name), ()):
            found.setdefault(place, []).append(name)
    return {place: tuple(names) for place, names in found.items()}


def _results(segments: Sequence[NumberedSegment], names: Sequence[str]) -> list[Key]:
    """Who gives each result."""
    givers = {name: n.segment.place for n in segments for name in n.sent.get(ENGINE, ())}
    return [(givers[name], name) for name in names]


def _arguments_read(segments: Sequence[NumberedSegment]) -> dict[str, tuple[str, ...]]:
    """The arguments of a step that each place reads."""
    found: dict[str, dict[str, None]] = {n.segment.place: {} for n in segments}
    for numbered in segments:
        for node in numbered.segment.graph.inputs:
            name = str(node.attr("name"))
            if node.attr("role") == "argument" and name not in numbered.segment.received:
                found[numbered.segment.place][name] = None
    return {place: tuple(names) for place, names in found.items()}


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
