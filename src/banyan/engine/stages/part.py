"""A part of a plan: the segments of one place, with their weights and states.

`Part` is the seam; `LocalPart` computes in this process, `remote_part.RemotePart` asks a worker.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import ml_dtypes
import numpy as np

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.cutting.renaming import PlainGraph, plainly_named
from banyan.compiler.cutting.segments import Segment
from banyan.compiler.executable import Array, Executable, WeightSource
from banyan.compiler.report import CompileReport
from banyan.compiler.weight_sharing import load_once
from banyan.devices.device import Device
from banyan.foundation.errors import InputError, StageFailed

# The bits of infinity in formats of 16 bits, shifted to drop the sign.
_INFINITIES = {np.dtype(ml_dtypes.bfloat16): 0xFF00, np.dtype(np.float16): 0xF800}

_FEW = 64
"""So many are compared one by one: behind a long kernel that is in the caches, and NumPy is not."""

ENGINE = ""
"""Where results of the whole graph go; no place of a plan has this name."""


@dataclass(frozen=True, slots=True)
class NumberedSegment:
    """A segment as its part sees it.

    Attributes:
        number: among all segments of the step.
        segment: what to compute.
        sent: other places, and `ENGINE` -> what they need of what it gives; the rest stays at the
            place for its own later segments.
        title: what a person calls it: "layers 0 to 3".
    """

    number: int
    segment: Segment
    sent: Mapping[str, tuple[str, ...]]
    title: str


class Part(Protocol):
    """The segments of one place. Calls come from one thread at a time."""

    @property
    def place(self) -> str:
        """The device of the plan."""
        ...

    @property
    def reports(self) -> Sequence[CompileReport]:
        """What compiling its segments did."""
        ...

    def load_weights(self, source: WeightSource) -> None:
        """Read the weights of its segments, and no others."""
        ...

    def allocate_state(self, sizes: Mapping[str, int]) -> None:
        """Give its states zeroed memory."""
        ...

    def step_bytes(self, most: Mapping[str, int]) -> int:
        """Memory that runs take for values and results."""
        ...

    def read_state_parts(
        self, names: Collection[str], indices: Sequence[int]
    ) -> Mapping[str, Array]:
        """Copy the same entries of several states, [len(indices), ...] each."""
        ...

    def write_state_parts(self, values: Mapping[str, Array], indices: Sequence[int]) -> None:
        """Replace the same entries of several states."""
        ...

    def write_state(self, name: str, value: Array) -> None:
        """Replace a state."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class LocalPart:
    """Computes on a device of this process."""

    def __init__(
        self,
        place: str,
        segments: Sequence[NumberedSegment],
        device: Device,
        *,
        target: str | None,
        options: CompileOptions,
    ) -> None:
        """Compile the segments.

        Args:
            place: the device of the plan.
            segments: in the order in which they run.
            device: closed by `close`.
            target: see `compile_graph`.
            options: see `compile_graph`.
        """
        self.place = place
        self._device = device
        self._segments = {numbered.number: numbered for numbered in segments}
        self._plain = {n.number: plainly_named(n.segment.graph) for n in segments}
        self._programs = {
            number: compile_graph(plain.graph, device=device, target=target, options=options)
            for number, plain in self._plain.items()
        }
        self._calls = {n.number: _call_of(n, self._plain[n.number]) for n in segments}

    @property
    def reports(self) -> Sequence[CompileReport]:
        """See `Part`."""
        return [program.report for program in self._programs.values()]

    def load_weights(self, source: WeightSource) -> None:
        """See `Part`."""
        names = {number: plain.inputs for number, plain in self._plain.items()}
        load_once(self._programs, names, source)

    def allocate_state(self, sizes: Mapping[str, int]) -> None:
        """See `Part`."""
        for program in self._programs.values():
            program.allocate_state(sizes)

    def step_bytes(self, most: Mapping[str, int]) -> int:
        """See `Part`."""
        return sum(program.step_bytes(most) for program in self._programs.values())

    def compute(
        self, number: int, arguments: Mapping[str, Array], values: Mapping[str, Array]
    ) -> Mapping[str, Array]:
        """Run a segment.

        Args:
            number: of the segment.
            arguments: of the step.
            values: what it takes of segments.

        Returns:
            What it gives, unchecked; another run of the same segment overwrites it.
        """
        call = self._calls[number]
        taken = {plain: arguments[name] for name, plain in call.arguments}
        for name, plain in call.values:
            taken[plain] = values[name]
        found = self._programs[number].run(taken)
        return {name: found[plain] for name, plain in call.given}

    def check(self, number: int, results: Mapping[str, Array]) -> None:
        """Look for NaN in what a segment gave.

        Raises:
            StageFailed: it computed NaN.
        """
        for name, is_whole in self._calls[number].checked:
            array = results[name]
            if has_nan(array if is_whole else array[..., :1]):
                raise gave_nan(f"{self._segments[number].title} on {self.place}", self.place)

    def read_state_parts(
        self, names: Collection[str], indices: Sequence[int]
    ) -> Mapping[str, Array]:
        """See `Part`."""
        found = {}
        for name in names:
            program, plain = self._holders(name)[0]
            found[name] = program.read_state_parts([plain], indices)[plain]
        return found

    def write_state_parts(self, values: Mapping[str, Array], indices: Sequence[int]) -> None:
        """See `Part`."""
        for name, value in values.items():
            for program, plain in self._holders(name):
                program.write_state_parts({plain: value}, indices)

    def write_state(self, name: str, value: Array) -> None:
        """See `Part`."""
        for program, plain in self._holders(name):
            program.write_state(plain, value)

    def _holders(self, state: str) -> list[tuple[Executable, str]]:
        """Those who keep a state: several of one that steps only read."""
        holders = [
            (program, plain)
            for number, program in self._programs.items()
            if (plain := self._plain[number].inputs.get(state)) is not None
        ]
        if not holders:
            raise InputError(f"{self.place} holds no state {state!r}")
        return holders

    def close(self) -> None:
        """See `Part`."""
        self._device.close()


@dataclass(frozen=True, slots=True)
class _Call:
    """What a run of a segment takes and gives, looked up once.

    Attributes:
        arguments: of the step: name, and plain name in the program.
        values: of other segments, likewise.
        given: what it gives, likewise.
        checked: the names of its floats, and whether all of them are looked at. Of results with a
            row for each token the first column tells: a NaN in a row spreads.
    """

    arguments: tuple[tuple[str, str], ...]
    values: tuple[tuple[str, str], ...]
    given: tuple[tuple[str, str], ...]
    checked: tuple[tuple[str, bool], ...]


def _call_of(numbered: NumberedSegment, plain: PlainGraph) -> _Call:
    segment = numbered.segment
    taken = [str(n.attr("name")) for n in segment.graph.inputs if n.attr("role") == "argument"]
    kinds = {output.name: output.node.dtype for output in segment.graph.outputs}
    return _Call(
        tuple((name, plain.inputs[name]) for name in taken if name not in segment.received),
        tuple((name, plain.inputs[name]) for name in taken if name in segment.received),
        tuple((name, plain.outputs[name]) for name in segment.given),
        tuple((n, n.startswith("value.")) for n in segment.given if kinds[n].is_floating),
    )


def gave_nan(who: str, place: str) -> StageFailed:
    """What to raise when a device computed NaN."""
    return StageFailed(
        f"{who} gave NaN; its weights are damaged, or its device computes wrongly: run `banyan "
        "conformance` on it, or plan without it",
        place=place,
    )


def has_nan(array: Array) -> bool:
    """Whether any element of an array is NaN.

    The least of floats that the processor knows is NaN if one is; of others the bits tell, where
    those of every NaN, without the sign, are above those of infinity.
    """
    if not array.size or array.dtype.kind in "iub":
        return False
    if array.size <= _FEW:
        return any(map(math.isnan, array.ravel().tolist()))
    infinity = _INFINITIES.get(array.dtype)
    if infinity is not None:
        return bool(np.maximum.reduce(array.view(np.uint16) << 1, axis=None) > infinity)
    seen = array if array.dtype.kind == "f" else array.astype(np.float32)
    return bool(np.isnan(np.minimum.reduce(seen, axis=None)))
