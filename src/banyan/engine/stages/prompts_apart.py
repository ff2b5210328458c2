"""Steps whose prompts one program computes and whose answers another: `Replica.prefill`.

Both have all weights and memory for all KV-cache blocks, under the same numbers. A sequence is
computed where prompts are until its last prompt token gave the first of its answer; then the blocks
it has move over as it reads them, and it goes on where answers are. A beginning that others share
goes either way, once. Whoever runs steps need not know: the engine's cache, its index and its
stores see one program.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import TypeVar, final

from banyan.compiler.executable import (
    Argument,
    Array,
    Executable,
    PendingRun,
    Progress,
    WeightSource,
    evaluate_shape,
)
from banyan.compiler.interpreted import graph_arguments, graph_outputs
from banyan.compiler.ir.graph import Graph
from banyan.engine.stages.block_copies import BlockCopies, touched_by
from banyan.engine.stages.portable_states import PortableStates
from banyan.engine.stages.staged_program import joined_report
from banyan.engine.stages.step_division import Share, answering, join_results, share_of

_NUM_BLOCKS = "num_blocks"
"""The size of states that have an entry for each block."""

_PROMPTS, _ANSWERS = 0, 1

# Blocks move together, all their states in one message there and one back, up to so many bytes.
_MOST_BYTES = 64 << 20

Result = TypeVar("Result")


@final
class PromptsApart(Executable):
    """Two programs of one model, and the blocks that go between them.

    Attributes:
        num_moved: blocks that went from one to the other so far.
    """

    def __init__(self, graph: Graph, prompts: Executable, answers: Executable) -> None:
        """Take two programs without weights; `close` closes them.

        Args:
            graph: the step of the uncut model.
            prompts: computes prompts.
            answers: computes answers.
        """
        report = joined_report(graph.name, [prompts.report, answers.report])
        super().__init__(graph_arguments(graph), graph_outputs(graph), report)
        self._sides = (_Side(self.inputs, prompts), _Side(self.inputs, answers))
        self._of_blocks = {
            argument.name: argument
            for argument in self.inputs
            if argument.role == "state" and str(argument.type.shape[0]) == _NUM_BLOCKS
        }
        self._copies = BlockCopies(0)
        self._most_blocks = 1
        self.num_moved = 0

    @property
    def num_in_flight(self) -> int:
        """As the base says."""
        return self._sides[_ANSWERS].num_in_flight

    def load_weights(self, source: WeightSource, progress: Progress | None = None) -> None:
        """As the base says; each side reads all of them."""
        for done, side in enumerate(self._sides, start=1):
            side.program.load_weights(source)
            if progress is not None:
                progress(done, len(self._sides))
        for place, argument in enumerate(self.inputs):
            if argument.role == "weight":
                self._missing.pop(place, None)

    def allocate_state(self, symbol_values: Mapping[str, int]) -> None:
        """As the base says."""
        super().allocate_state(symbol_values)
        for side in self._sides:
            side.program.allocate_state(self._sizes)
        self._copies = BlockCopies(self._sizes[_NUM_BLOCKS])
        self._most_blocks = max(1, _MOST_BYTES // self._block_bytes())

    def _block_bytes(self) -> int:
        """Bytes of a block in all layers."""
        shapes = (evaluate_shape(a.type, self._sizes)[1:] for a in self._of_blocks.values())
        itemsizes = (a.type.dtype.numpy.itemsize for a in self._of_blocks.values())
        return sum(prod(shape) * size for shape, size in zip(shapes, itemsizes, strict=True))

    def step_bytes(self, most: Mapping[str, int]) -> int:
        """As the base says; of both."""
        return sum(side.program.step_bytes(most) for side in self._sides)

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights of both."""
        return sum(side.program.weight_bytes for side in self._sides)

    def close(self) -> None:
        """End both."""
        for side in self._sides:
            side.close()

    def _load(self, place: int, array: Array) -> None:
        raise NotImplementedError("both sides read their own weights")

    def _allocate(self, place: int) -> None:
        """Both sides do, all their states at once."""

    def _write(self, place: int, value: Array) -> None:
        name = self.inputs[place].name
        for side in self._sides:
            side.write_all(name, value)

    def _write_part(self, place: int, index: int, value: Array) -> None:
        name = self.inputs[place].name
        if name in self._of_blocks:
            # What comes back from a store is the beginning of a prompt.
            self._sides[_PROMPTS].write({name: value[None]}, [index])
            self._copies.note_filled(_PROMPTS, index)
            return
        # Not of blocks: each side knows how it is cut.
        for side in self._sides:
            side.write_state_part(name, index, value)

    def _read_part(self, place: int, index: int, part: Argument) -> Array:
        name = self.inputs[place].name
        side = self._copies.newest(index) if name in self._of_blocks else _ANSWERS
        entries = self._sides[side].read([name], [index])[name]
        return entries.reshape(entries.shape[1:])

    def _run(self, arguments: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        return dict(self._begin(arguments, sizes).finish())

    def _begin(self, arguments: Mapping[str, Array], sizes: Mapping[str, int]) -> PendingRun:
        answers_S = answering(arguments)
        if answers_S.all() or not answers_S.any():
            side = _ANSWERS if answers_S.all() else _PROMPTS
            self._prepare(side, arguments)
            return self._sides[side].begin(arguments)
        shares = [share_of(self.inputs, arguments, chosen) for chosen in (~answers_S, answers_S)]
        for side, share in enumerate(shares):
            self._prepare(side, share.arguments)
        # Both at once: neither reads what the other writes in the same step.
        runs = [
            (share, side.begin(share.arguments))
            for side, share in zip(self._sides, shares, strict=True)
        ]
        return _JoinedRun(self.outputs, runs, sizes["num_tokens"], sizes["num_logit_rows"])

    def _prepare(self, side: int, arguments: Mapping[str, Array]) -> None:
        """Bring over what a side will read, and note what it will write.

        What is read was written by steps that are over, whichever are under way.
        """
        touched = touched_by(arguments)
        blocks = self._copies.missing(side, touched)
        for start in range(0, len(blocks), self._most_blocks):
            some = blocks[start : start + self._most_blocks]
            self._sides[side].write(self._sides[1 - side].read(list(self._of_blocks), some), some)
        for block in blocks:
            self._copies.note_moved(side, block)
        self.num_moved += len(blocks)
        self._copies.note_written(side, touched)


class _Side:
    """One of the two programs; one that computes in this process does so in a thread of its own.

    So the other goes on meanwhile. Whatever reads or writes its states is done in that thread too,
    in the order in which it is asked for.
    """

    def __init__(self, whole: Sequence[Argument], program: Executable) -> None:
        self.program = program
        self._states = PortableStates(whole, program)
        self._thread = ThreadPoolExecutor(1, "side") if program.num_in_flight == 1 else None

    @property
    def num_in_flight(self) -> int:
        """Runs that may be begun and not finished."""
        return max(2, self.program.num_in_flight)

    def begin(self, arguments: Mapping[str, Array]) -> PendingRun:
        """Start a run."""
        if self._thread is None:
            return self.program.begin(arguments)
        return _RunInThread(self._thread.submit(self._run, arguments))

    def _run(self, arguments: Mapping[str, Array]) -> Mapping[str, Array]:
        # The next run overwrites them, and may come before they are read.
        return {name: array.copy() for name, array in self.program.run(arguments).items()}

    def read(self, names: Sequence[str], indices: Sequence[int]) -> dict[str, Array]:
        """Copy entries of states of the whole model."""
        return self._done(lambda: self._states.read(names, indices))

    def write(self, values: Mapping[str, Array], indices: Sequence[int]) -> None:
        """Replace entries of states of the whole model."""
        self._done(lambda: self._states.write(values, indices))

    def write_all(self, name: str, value: Array) -> None:
        """Replace a state of the whole model."""
        self._done(lambda: self._states.write_all(name, value))

    def write_state_part(self, name: str, index: int, value: Array) -> None:
        """Replace an entry of a state as the program knows it."""
        self._done(lambda: self.program.write_state_part(name, index, value))

    def _done(self, call: Callable[[], Result]) -> Result:
        return call() if self._thread is None else self._thread.submit(call).result()

    def close(self) -> None:
        """End the program."""
        if self._thread is not None:
            self._thread.shutdown()
        self.program.close()


@dataclass(frozen=True, slots=True)
class _RunInThread:
    """A run that a thread does."""

    results: "Future[Mapping[str, Array]]"

    def finish(self) -> Mapping[str, Array]:
        """See `PendingRun`."""
        return self.results.result()


@dataclass(frozen=True, slots=True)
class _JoinedRun:
    """A step that both sides compute."""

    outputs: Sequence[Argument]
    runs: Sequence[tuple[Share, PendingRun]]
    num_tokens: int
    num_rows: int

    def finish(self) -> Mapping[str, Array]:
        """See `PendingRun`."""
        found = [(share, run.finish()) for share, run in self.runs]
        return join_results(self.outputs, found, self.num_tokens, self.num_rows)
