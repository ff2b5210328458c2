"""From a step to the arrays of the decoder, and from the model back to logits.

Knows the names and shapes of the decoder's arguments and nothing of policy, sampling or chips.
Dims: L lanes, S sequences of the step, T tokens of the step, B blocks, R rows of logits, V words.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import FinishedRun, PendingRun
from banyan.engine.cache.key_value_blocks import BLOCK_SIZE, blocks_for
from banyan.engine.cache.sequence_table import SequenceTable

FloatArray = NDArray[np.float32]
IdArray = NDArray[np.int64]


class StepModel(Protocol):
    """Anything that computes the decoder's step: a compiled program or a fake.

    A class that says it is one need only write `run`.
    """

    @property
    def num_in_flight(self) -> int:
        """How many steps may be begun and not finished: 1, but where several places compute.

        Steps under way are those of different sequences, which write different blocks; they are
        finished in the order in which they were begun.
        """
        return 1

    def begin(self, arguments: Mapping[str, NDArray[Any]]) -> PendingRun:
        """Start a step; its results are those of `run`, valid until another is begun or finished.

        `arguments` are left as they are until then.
        """
        return FinishedRun(self.run(arguments))

    @abstractmethod
    def run(self, arguments: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return "logits" [R, V] float32 for arguments named as in `step_arguments`.

        A model whose states are read by heads that guess also returns "hidden" [T, H] float32.

        The result may be overwritten by the next call.
        """
        ...


class SeenArguments(Protocol):
    """Whatever knows what the tokens of a step see besides words."""

    def __call__(
        self, arguments: Mapping[str, NDArray[Any]], slices: "Sequence[LaneSlice]"
    ) -> Mapping[str, NDArray[Any]]:
        """Return the arguments with what is seen."""
        ...


@dataclass(frozen=True, slots=True)
class LaneSlice:
    """Compute tokens `start` .. `start + num_tokens` of the sequence in `lane`.

    Attributes:
        num_logits: so many of its last tokens get a row of logits; 0 when none does.
    """

    lane: int
    start: int
    num_tokens: int
    num_logits: int


@dataclass(frozen=True, slots=True)
class StepResults:
    """What came of a step; overwritten when the model begins or finishes another.

    Attributes:
        logits: [R, V], for the tokens that want them, in the order of the slices and, within a
            slice, of its tokens.
        hidden: [T, H], of all tokens in the same order; None where the model does not give them.
    """

    logits: FloatArray
    hidden: FloatArray | None = None


class PendingStep:
    """A step that was begun."""

    def __init__(self, run: PendingRun | None, num_logits: int) -> None:
        """Take the run of the model, None where there is nothing to compute."""
        self._run = run
        self._num_logits = num_logits

    def finish(self) -> StepResults:
        """Wait for the results; called once."""
        if self._run is None:
            return StepResults(np.zeros((0, 0), dtype=np.float32))
        results = self._run.finish()
        return StepResults(results["logits"][: self._num_logits], results.get("hidden"))


class Runner:
    """Lays out each step for one model.

    `seen` adds what is seen; None for a model that sees nothing.
    """

    def __init__(
        self, model: StepModel, table: SequenceTable, seen: SeenArguments | None = None
    ) -> None:
        self._model = model
        self._table = table
        self._seen = seen

    def begin(self, slices: Sequence[LaneSlice]) -> PendingStep:
        """Start to run the model once over all slices, or not at all."""
        if not slices:
            return PendingStep(None, 0)
        arguments: Mapping[str, NDArray[Any]] = step_arguments(self._table, slices)
        if self._seen is not None:
            arguments = self._seen(arguments, slices)
        num_logits = sum(slice_.num_logits for slice_ in slices)
        return PendingStep(self._model.begin(arguments), num_logits)

    def run(self, slices: Sequence[LaneSlice]) -> FloatArray:
        """Run the model once over all slices, or not at all; returns logits [R, V]."""
        return self.begin(slices).finish().logits


def step_arguments(table: SequenceTable, slices: Sequence[LaneSlice]) -> dict[str, NDArray[Any]]:
    """Lay out the decoder's arguments for one step.

    Programs are made for at least one row of logits: when no slice wants any, the last token
    is asked for.
    """
    num_slices = len(slices)
    columns = np.array(
        [(s.lane, s.start, s.num_tokens, s.num_logits) for s in slices], dtype=np.int64
    ).reshape(num_slices, 4)
    lanes_S, starts_S, counts_S, wanted_S = columns.T
    ends_S = starts_S + counts_S
    query_starts = np.zeros(num_slices + 1, dtype=np.int32)
    np.cumsum(counts_S, out=query_starts[1:])

    if int(query_starts[-1]) == num_slices:  # one token each, the usual step
        lanes_T, positions_T = lanes_S, starts_S
    else:
        lanes_T = np.repeat(lanes_S, counts_S)
        shift_S = starts_S - query_starts[:-1]
        positions_T = np.arange(query_starts[-1]) + np.repeat(shift_S, counts_S)
    blocks_T = table.blocks_LB[lanes_T, positions_T // BLOCK_SIZE]
    num_blocks = blocks_for(int(ends_S.max()))
    arguments = {
        "token_ids": table.tokens_LT[lanes_T, positions_T].astype(np.int64),
        "positions": np.ascontiguousarray(positions_T),
        "slots": blocks_T.astype(np.int64) * BLOCK_SIZE + positions_T % BLOCK_SIZE,
        "block_tables": table.blocks_LB[lanes_S, :num_blocks],
        "query_starts": query_starts,
        "context_lengths": ends_S.astype(np.int32),
        "logit_rows": _logit_rows(query_starts[1:].astype(np.int64), wanted_S),
    }
    if table.adapters_L is not None:
        arguments["adapters"] = table.adapters_L[lanes_T]
    return arguments


def _logit_rows(stops_S: IdArray, wanted_S: IdArray) -> IdArray:
    """Rows of the step that get logits: the last `wanted_S` of each sequence's tokens."""
    most = int(wanted_S.max())
    rows_R: IdArray
    if most == 0:
        rows_R = stops_S[-1:] - 1
    elif most == 1:
        rows_R = stops_S[wanted_S != 0] - 1
    else:
        # How far a wanted row lies behind its place among the wanted ones.
        shift_S = stops_S - np.cumsum(wanted_S)
        rows_R = np.arange(wanted_S.sum()) + np.repeat(shift_S, wanted_S)
    return rows_R
