"""A step whose prompts one program computes and whose answers another: `Replica.prefill`.

Both have all weights and memory for all KV-cache blocks, under the same numbers. A sequence is
computed where prompts are until its last prompt token gave the first of its answer; then the blocks
it has move over as it reads them, and it goes on where answers are. A beginning that others share
goes either way, once. Whoever runs steps need not know: the engine's cache, its index and its
stores see one program.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import final

import numpy as np

from banyan.compiler.executable import Argument, Array, Executable, Progress, WeightSource
from banyan.compiler.interpreted import graph_arguments, graph_outputs
from banyan.compiler.ir.graph import Graph
from banyan.engine.stages.block_copies import BlockCopies, touched_by
from banyan.engine.stages.portable_states import PortableStates
from banyan.engine.stages.staged_program import joined_report
from banyan.engine.stages.step_division import Share, answering, join_results, share_of

_NUM_BLOCKS = "num_blocks"
"""The size of states that have an entry for each block."""

_PROMPTS, _ANSWERS = 0, 1


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
        self._sides = (prompts, answers)
        report = joined_report(graph.name, [prompts.report, answers.report])
        super().__init__(graph_arguments(graph), graph_outputs(graph), report)
        self._states = tuple(PortableStates(self.inputs, side) for side in self._sides)
        self._of_blocks = [
            argument.name
            for argument in self.inputs
            if argument.role == "state" and str(argument.type.shape[0]) == _NUM_BLOCKS
        ]
        self._copies = BlockCopies(0)
        self._thread = ThreadPoolExecutor(1, "prompts")
        self.num_moved = 0

    def load_weights(self, source: WeightSource, progress: Progress | None = None) -> None:
        """As the base says; each side reads all of them."""
        for done, side in enumerate(self._sides, start=1):
            side.load_weights(source)
            if progress is not None:
                progress(done, len(self._sides))
        for place, argument in enumerate(self.inputs):
            if argument.role == "weight":
                self._missing.pop(place, None)

    def allocate_state(self, symbol_values: Mapping[str, int]) -> None:
        """As the base says."""
        super().allocate_state(symbol_values)
        for side in self._sides:
            side.allocate_state(self._sizes)
        self._copies = BlockCopies(self._sizes[_NUM_BLOCKS])

    def step_bytes(self, most: Mapping[str, int]) -> int:
        """As the base says; of both."""
        return sum(side.step_bytes(most) for side in self._sides)

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights of both."""
        return sum(side.weight_bytes for side in self._sides)

    def close(self) -> None:
        """End both."""
        self._thread.shutdown()
        for side in self._sides:
            side.close()

    def _load(self, place: int, array: Array) -> None:
        raise NotImplementedError("both sides read their own weights")

    def _allocate(self, place: int) -> None:
        """Both sides do, all their states at once."""

    def _write(self, place: int, value: Array) -> None:
        name = self.inputs[place].name
        for states in self._states:
            states.write_all(name, value)

    def _write_part(self, place: int, index: int, value: Array) -> None:
        name = self.inputs[place].name
        if name in self._of_blocks:
            # What comes back from a store is the beginning of a prompt.
            self._states[_PROMPTS].write(name, index, value)
            self._copies.note_filled(_PROMPTS, index)
            return
        # Not of blocks: each side knows how it is cut.
        for side in self._sides:
            side.write_state_part(name, index, value)

    def _read_part(self, place: int, index: int, part: Argument) -> Array:
        name = self.inputs[place].name
        side = self._copies.newest(index) if name in self._of_blocks else _ANSWERS
        return self._states[side].read(name, index)

    def _run(self, arguments: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        answers_S = answering(arguments)
        if answers_S.all() or not answers_S.any():
            side = _ANSWERS if answers_S.all() else _PROMPTS
            self._prepare(side, arguments)
            return dict(self._sides[side].run(arguments))
        shares = [share_of(self.inputs, arguments, chosen) for chosen in (~answers_S, answers_S)]
        for side, share in enumerate(shares):
            self._prepare(side, share.arguments)
        found = self._run_both(shares)
        num_tokens, num_rows = sizes["num_tokens"], sizes["num_logit_rows"]
        return join_results(self.outputs, found, num_tokens, num_rows)

    def _run_both(self, shares: list[Share]) -> list[tuple[Share, Mapping[str, Array]]]:
        """Both at once: neither reads what the other writes in the same step."""
        prompts = self._thread.submit(self._sides[_PROMPTS].run, shares[_PROMPTS].arguments)
        try:
            answers = self._sides[_ANSWERS].run(shares[_ANSWERS].arguments)
        finally:
            wait([prompts])
        return [(shares[_PROMPTS], prompts.result()), (shares[_ANSWERS], answers)]

    def _prepare(self, side: int, arguments: Mapping[str, Array]) -> None:
        """Bring over what a side will read, and note what it will write."""
        touched = touched_by(arguments)
        for block in self._copies.missing(side, touched):
            for name in self._of_blocks:
                value = np.ascontiguousarray(self._states[1 - side].read(name, block))
                self._states[side].write(name, block, value)
            self._copies.note_moved(side, block)
            self.num_moved += 1
        self._copies.note_written(side, touched)
