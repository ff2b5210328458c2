"""Typical steps of a loaded decoder, kernel by kernel: a prompt, one answer, many answers.

For `banyan compile --report` and `--dump`. The tokens mean nothing; the work is that of real steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.compile import LoweredProgram
from banyan.compiler.executable import Executable
from banyan.compiler.ir.binding import bind_symbols
from banyan.compiler.tuner.timeline import Timeline, read_timeline
from banyan.devices.cpu import CpuDevice
from banyan.devices.profile import DeviceProfile
from banyan.devices.recorder import LaunchRecorder
from banyan.engine.key_value_blocks import blocks_for
from banyan.engine.runner import LaneSlice, step_arguments
from banyan.engine.sequence_table import SequenceTable

WARM_RUNS = 2


@dataclass(frozen=True, slots=True)
class Step:
    """Attributes:
    title: for people.
    sequences: how many take part.
    past: tokens of each that are in the cache already.
    new: tokens of each that are computed.
    """

    title: str
    sequences: int
    past: int
    new: int


def typical_steps(max_model_len: int, num_blocks: int) -> Iterator[Step]:
    """The steps that fit a context and a cache of this size."""
    context = min(512, max_model_len - 1)
    yield Step(f"prompt of {context} tokens", 1, 0, context)
    yield Step(f"one answer after {context} tokens", 1, context, 1)
    many = min(16, num_blocks // blocks_for(context + 1))
    if many > 1:
        yield Step(f"{many} answers after {context} tokens", many, context, 1)


def arguments_of(step: Step) -> dict[str, NDArray[Any]]:
    """The decoder's arguments for a step; every sequence has blocks of its own."""
    length = step.past + step.new
    num_blocks = blocks_for(length)
    table = SequenceTable(step.sequences, length)
    table.blocks_LB[:] = np.arange(step.sequences * num_blocks).reshape(step.sequences, num_blocks)
    slices = [LaneSlice(lane, step.past, step.new, True) for lane in range(step.sequences)]
    return step_arguments(table, slices)


def rehearse(
    step: Step,
    executable: Executable,
    program: LoweredProgram,
    device: CpuDevice,
    recorder: LaunchRecorder,
    profile: DeviceProfile,
    *,
    rounds: int = 5,
) -> Timeline:
    """Run a step and give the timeline of the median round.

    `program` is what `executable` was made from; its states are allocated.
    """
    arguments = arguments_of(step)
    types = {str(node.attr("name")): node.tensor for node in program.graph.inputs}
    shapes = {name: array.shape for name, array in arguments.items()}
    sizes = bind_symbols({name: types[name] for name in shapes}, shapes)
    states = (node.tensor for node in program.graph.inputs if node.attr("role") == "state")
    sizes.update({symbol.name: symbol.maximum for kind in states for symbol in kind.symbols()})
    found = []
    for number in range(WARM_RUNS + rounds):
        recorder.clear()
        device.record(recorder if number >= WARM_RUNS else None)
        executable.run(arguments)
        if number >= WARM_RUNS:
            found.append(
                read_timeline(
                    step.title, program, arguments, sizes, tuple(recorder.launches), profile
                )
            )
    device.record(None)
    return sorted(found, key=lambda timeline: timeline.seconds)[rounds // 2]
