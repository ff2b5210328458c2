"""From a plan and a model to a program over all its places.

Called by the loading of a decoder. Parts open at the same time: none waits while another compiles.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from banyan.compiler.compile import CompileOptions
from banyan.compiler.cutting.segments import Segment, cut_graph
from banyan.compiler.cutting.shards import ShardedGraph, shard_graph
from banyan.compiler.ir.graph import Graph
from banyan.devices.discovery import find_device
from banyan.engine.stages.addresses import INTERPRETER
from banyan.engine.stages.part import ENGINE, LocalPart, NumberedSegment, Part
from banyan.engine.stages.placement import (
    is_cut,
    layer_of_input,
    places_of_input,
    places_of_nodes,
    stages_to_run,
)
from banyan.engine.stages.remote_part import RemotePart
from banyan.engine.stages.staged_program import StagedProgram, number_segments
from banyan.foundation.settings import Settings
from banyan.planner.plan import Plan, pipeline_depth

# One is computed, and what the next one takes is on its way: uneven steps leave no place idle.
_STEPS_AT_A_PLACE = 2


@dataclass(frozen=True, slots=True)
class CutModel:
    """A model cut as a plan says; nothing is opened yet.

    Attributes:
        sharded: the graph of the step, with the tensors of all ranks.
        segments: in the order in which they can run.
        num_in_flight: how many steps may be under way at a time.
    """

    sharded: ShardedGraph
    segments: tuple[NumberedSegment, ...]
    num_in_flight: int

    @property
    def places(self) -> tuple[str, ...]:
        """The devices of the plan, in the order of their first segments."""
        return tuple(dict.fromkeys(numbered.segment.place for numbered in self.segments))

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """Places that exchange values, each pair once."""
        return frozenset(
            (min(one, other), max(one, other))
            for numbered in self.segments
            for other in numbered.sent
            if other != ENGINE and (one := numbered.segment.place)
        )

    def of_place(self, place: str) -> tuple[NumberedSegment, ...]:
        """What one device computes."""
        return tuple(n for n in self.segments if n.segment.place == place)


def cut_model(graph: Graph, plan: Plan, *, of_prompts: bool = False) -> CutModel:
    """Cut the step of a decoder along the stages of answers, or of prompts where they are apart.

    Args:
        graph: the step.
        plan: one in which `plan_check.check_form` finds no fault.
        of_prompts: along the stages of prompts.

    Raises:
        InputError: the plan asks for what is not carried out.
        GraphError: tensors cannot be cut in this graph.
    """
    stages = stages_to_run(plan, of_prompts=of_prompts)
    sharded = ShardedGraph(graph)
    if any(is_cut(stage) for stage in stages):
        sharded = shard_graph(graph, lambda node: places_of_input(node, stages))
    segments = cut_graph(sharded.graph, places_of_nodes(sharded, stages))
    titles = {number: _title(segment) for number, segment in enumerate(segments)}
    numbered = number_segments(sharded.graph, segments, titles)
    return CutModel(sharded, numbered, _STEPS_AT_A_PLACE * pipeline_depth(stages))


def open_inline(
    place: str,
    segments: Sequence[NumberedSegment],
    device: str,
    *,
    threads: int | None,
    settings: Settings,
    compiling: CompileOptions,
) -> LocalPart:
    """Compile a part in this process.

    Raises:
        DeviceMissing: there is no such device.
    """
    is_interpreted = device == INTERPRETER
    name = "null" if is_interpreted else device
    opened = find_device(name, settings=settings, num_threads=threads)
    target = INTERPRETER if is_interpreted else None
    try:
        return LocalPart(place, segments, opened, target=target, options=compiling)
    except BaseException:
        opened.close()
        raise


def open_together(
    cut: CutModel,
    open_one: Callable[[str, Sequence[NumberedSegment]], Part],
    *,
    num_in_flight: int,
) -> StagedProgram:
    """Open the parts of all places, all at once, let their workers meet, and join them.

    When one cannot be opened the others are closed, and its error is raised.
    """
    with ThreadPoolExecutor(len(cut.places)) as threads:
        futures = {
            place: threads.submit(open_one, place, cut.of_place(place)) for place in cut.places
        }
    failed = next((f for f in futures.values() if f.exception() is not None), None)
    with ExitStack() as opened:
        for future in futures.values():
            if future.exception() is None:
                opened.callback(future.result().close)
        if failed is not None:
            failed.result()
        parts = {place: future.result() for place, future in futures.items()}
        workers = [part for part in parts.values() if isinstance(part, RemotePart)]
        for worker in workers:
            worker.begin_meeting()
        for worker in workers:
            worker.finish_meeting()
        opened.pop_all()
    return StagedProgram(cut.sharded, cut.segments, parts, num_in_flight=num_in_flight)


def _title(segment: Segment) -> str:
    """What a person calls a segment."""
    layers = sorted(
        {layer for n in segment.graph.inputs if (layer := layer_of_input(n)) is not None}
    )
    if not layers:
        return "what lies between layers"
    if len(layers) == 1:
        return f"layer {layers[0]}"
    return f"layers {layers[0]} to {layers[-1]}"
