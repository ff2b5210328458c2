"""Typical runs of a loaded model, kernel by kernel: a prompt, one answer, many answers, a text.

For `banyan compile --report` and `--dump`. The tokens mean nothing; the work is that of real runs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.compile import LoweredProgram
from banyan.compiler.executable import Executable
from banyan.compiler.ir.binding import bind_symbols
from banyan.compiler.tuner.timeline import Run, Timeline, read_timeline
from banyan.devices.cpu import CpuDevice
from banyan.devices.profile import DeviceProfile
from banyan.devices.recorder import LaunchRecorder
from banyan.engine.cache.key_value_blocks import blocks_for
from banyan.engine.cache.sequence_table import SequenceTable
from banyan.engine.options import EngineLimits
from banyan.engine.runner import LaneSlice, step_arguments
from banyan.engine.vision.eyes import Eyes, unseen_arguments

CONTEXT = 512
SEQUENCES = 16
_WARM_RUNS = 2


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """One run: what people call it, its arguments, and sizes that only states have."""

    title: str
    arguments: Mapping[str, NDArray[Any]]
    state_sizes: Mapping[str, int] = field(default_factory=dict)


def decoder_rehearsals(limits: EngineLimits, eyes: Eyes | None = None) -> Iterator[Rehearsal]:
    """Steps of a decoder that fit its limits; one with `eyes` sees nothing in them."""
    for rehearsal in _text_rehearsals(limits):
        arguments = rehearsal.arguments
        given = arguments if eyes is None else unseen_arguments(arguments, eyes)
        yield replace(rehearsal, arguments=given)


def _text_rehearsals(limits: EngineLimits) -> Iterator[Rehearsal]:
    states = {"num_blocks": limits.num_blocks}
    context = min(CONTEXT, limits.max_model_len - 1)
    if context < 1:
        return
    prompt = f"a prompt of {context} tokens"
    yield Rehearsal(prompt, _step(1, past=0, new=context), states)
    yield Rehearsal(f"an answer after {context} tokens", _step(1, past=context, new=1), states)
    many = min(SEQUENCES, limits.max_num_seqs, limits.num_blocks // blocks_for(context + 1))
    if many > 1:
        title = f"{many} answers after {context} tokens"
        yield Rehearsal(title, _step(many, past=context, new=1), states)


def encoder_rehearsals(max_tokens: int) -> Iterator[Rehearsal]:
    """Batches of an encoder."""
    length = min(CONTEXT, max_tokens)
    for batch, tokens in ((1, min(16, length)), (8, length)):
        shape = (batch, tokens)
        arguments = {
            "token_ids": np.zeros(shape, np.int64),
            "attention_mask": np.ones(shape, np.int64),
            "token_types": np.zeros(shape, np.int64),
        }
        yield Rehearsal(f"{batch} x {tokens} tokens", arguments)


def _step(sequences: int, *, past: int, new: int) -> dict[str, NDArray[Any]]:
    """The decoder's arguments; every sequence has blocks of its own."""
    num_blocks = blocks_for(past + new)
    table = SequenceTable(sequences, past + new)
    table.blocks_LB[:] = np.arange(sequences * num_blocks).reshape(sequences, num_blocks)
    slices = [LaneSlice(lane, past, new, 1) for lane in range(sequences)]
    return step_arguments(table, slices)


@dataclass(frozen=True, slots=True)
class Stage:
    """What a rehearsal needs.

    Attributes:
        executable: its weights are loaded, its states allocated.
        program: what `executable` was made from.
        device: runs it.
        recorder: times each kernel.
        profile: what the device can do.
        cache_bytes: of the last cache, all cores together.
    """

    executable: Executable
    program: LoweredProgram
    device: CpuDevice
    recorder: LaunchRecorder
    profile: DeviceProfile
    cache_bytes: int


def rehearse(rehearsal: Rehearsal, stage: Stage, *, rounds: int = 5) -> Timeline:
    """Run several times and give the timeline of the median round."""
    types = {str(node.attr("name")): node.tensor for node in stage.program.graph.inputs}
    arguments = rehearsal.arguments
    shapes = {name: array.shape for name, array in arguments.items()}
    sizes = bind_symbols({name: types[name] for name in shapes}, shapes)
    sizes.update(rehearsal.state_sizes)
    run = Run(rehearsal.title, arguments, sizes)
    found = []
    for number in range(_WARM_RUNS + rounds):
        stage.recorder.clear()
        stage.device.record(stage.recorder if number >= _WARM_RUNS else None)
        stage.executable.run(arguments)
        if number >= _WARM_RUNS:
            launches = tuple(stage.recorder.launches)
            found.append(
                read_timeline(run, stage.program, launches, stage.profile, stage.cache_bytes)
            )
    stage.device.record(None)
    return sorted(found, key=lambda timeline: timeline.seconds)[rounds // 2]
