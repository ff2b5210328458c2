"""Guess with an EAGLE head: a layer that goes on from the decoder's hidden states.

After Li et al. 2024 (arXiv:2401.15077). The head reads pairs: a token, and the state of the token
in front of it. From each it guesses the next state, and with the decoder's output matrix the next
word, which with that state makes the next pair. Words are the likeliest ones, one after the other,
without a tree of alternatives: a guess is certain, and checking it needs no probabilities.

The head keeps a cache of its own. It begins at the first state that was noted, which is behind what
the decoder found in its cache of prompts: a pair counts its place from there, which the rotation of
its layer does not see. Legend: T pairs of a run, H hidden size.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.engine.cache.key_value_blocks import blocks_for
from banyan.engine.cache.sequence_table import SequenceTable
from banyan.engine.options import EngineLimits
from banyan.engine.runner import LaneSlice, StepModel, step_arguments
from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.speculation.hidden_log import FloatArray, HiddenLog
from banyan.engine.speculation.medusa import LEAST_CHANCE
from banyan.engine.speculation.proposer import DraftDemand


class Eagle:
    """Runs an EAGLE head beside the decoder.

    Args:
        model: the compiled head; its cache has `limits.num_blocks` blocks.
        limits: a sequence that finds no lane, no block or no room gets no guesses.
        log: what the decoder's steps said.
        least_chance: guesses end where the head gives all of them together less than this.
    """

    is_free = False

    def __init__(
        self,
        model: StepModel,
        limits: EngineLimits,
        log: HiddenLog,
        *,
        least_chance: float = LEAST_CHANCE,
    ) -> None:
        self._model = model
        self._limits = limits
        self._log = log
        self._least_chance = least_chance
        self._table = SequenceTable(limits.max_num_seqs, limits.max_model_len)
        self._free_blocks = list(range(limits.num_blocks))
        self._followed: dict[SequenceId, _Followed] = {}

    def propose(self, demands: Sequence[DraftDemand]) -> list[list[int]]:
        """Read what came and guess up to `most` words, all sequences together."""
        paths = {demand.sequence_id: self._follow(demand) for demand in demands}
        going = self._read([path for path in paths.values() if path is not None])
        while going:
            slices = [path.next_slice() for path in going]
            hidden_TH = np.stack([path.state for path in going if path.state is not None])
            going = self._write(going, self._run(slices, hidden_TH))
        found = (paths[demand.sequence_id] for demand in demands)
        return [path.guesses if path is not None else [] for path in found]

    def forget(self, sequence_id: SequenceId) -> None:
        """Give back the lane and the blocks of a sequence."""
        self._log.forget(sequence_id)
        followed = self._followed.pop(sequence_id, None)
        if followed is not None:
            self._free_blocks.extend(followed.blocks)
            self._table.close_lane(followed.lane)

    def _follow(self, demand: DraftDemand) -> "_Path | None":
        """Take what is known of the tokens; None where there is none of it or no room."""
        end = len(demand.token_ids) - 1
        taken = self._log.take(demand.sequence_id, end)
        if taken is None:
            return None
        first, rows_TH = taken
        followed = self._followed.get(demand.sequence_id)
        if followed is None:
            if len(self._followed) == self._limits.max_num_seqs:
                return None
            followed = _Followed(self._table.open_lane([]), first)
            self._followed[demand.sequence_id] = followed
        elif followed.base + followed.num_read != first:
            followed.base, followed.num_read = first, 0
        num_pairs = end - followed.base
        # The last guess is never read.
        if not self._grow(followed, num_pairs + demand.most - 1):
            return None
        start, followed.num_read = followed.num_read, num_pairs
        came = demand.token_ids[first + 1 : end + 1]
        self._table.append_tokens(followed.lane, start, came)
        return _Path(followed.lane, start, num_pairs, demand.most, rows_TH)

    def _grow(self, followed: "_Followed", num_places: int) -> bool:
        """Take the blocks that so many pairs need; false where there are not enough."""
        num_new = blocks_for(num_places) - len(followed.blocks)
        if num_new > len(self._free_blocks) or num_places > self._limits.max_model_len:
            # What was taken from the log is lost: the sequence begins anew.
            followed.num_read, followed.base = 0, -1
            return False
        if num_new > 0:
            blocks = [self._free_blocks.pop() for _ in range(num_new)]
            self._table.append_blocks(followed.lane, len(followed.blocks), blocks)
            followed.blocks += blocks
        return True

    def _read(self, paths: "Sequence[_Path]") -> "list[_Path]":
        """Compute the pairs that came, in runs within the token budget; makes first guesses."""
        going: list[_Path] = []
        waiting = list(paths)
        while waiting:
            slices, rows, ready, budget = [], [], [], self._limits.token_budget
            while waiting and budget > 0:
                path = waiting[0]
                count = min(budget, path.num_pairs - path.start)
                budget -= count
                is_whole = path.start + count == path.num_pairs
                slices.append(LaneSlice(path.lane, path.start, count, int(is_whole)))
                rows.append(path.rows_TH[:count])
                path.start, path.rows_TH = path.start + count, path.rows_TH[count:]
                if is_whole:
                    ready.append(waiting.pop(0))
            hidden_TH = rows[0] if len(rows) == 1 else np.concatenate(rows)
            going += self._write(ready, self._run(slices, hidden_TH))
        return going

    def _run(self, slices: Sequence[LaneSlice], hidden_TH: FloatArray) -> "_Results":
        arguments = step_arguments(self._table, slices)
        arguments["hidden"] = hidden_TH
        return self._model.run(arguments)

    def _write(self, paths: "Sequence[_Path]", results: "_Results") -> "list[_Path]":
        """Add the likeliest word to each path; returns those that go on."""
        going = []
        # Overwritten by the next run.
        states = results["hidden"].copy()
        words, chances = results["token_ids"].tolist(), results["chances"].tolist()
        # A run in which nothing is whole still gives one row.
        for row, path in enumerate(paths):
            path.chance *= chances[row]
            if not path.chance >= self._least_chance:
                continue
            self._table.append_tokens(path.lane, path.num_pairs + len(path.guesses), [words[row]])
            path.guesses.append(words[row])
            path.state = states[row]
            if len(path.guesses) < path.most:
                going.append(path)
        return going


_Results = Mapping[str, NDArray[Any]]


class _Followed:
    """A sequence in the head's cache: the `num_read` pairs whose states begin at `base`."""

    __slots__ = ("base", "blocks", "lane", "num_read")

    def __init__(self, lane: int, base: int) -> None:
        self.lane = lane
        self.base = base
        self.blocks: list[int] = []
        self.num_read = 0


class _Path:
    """Guesses in the making: behind `num_pairs` pairs, of which those from `start` on are new.

    `chance` is that of all guesses together, `state` what the newest goes on from.
    """

    __slots__ = ("chance", "guesses", "lane", "most", "num_pairs", "rows_TH", "start", "state")

    def __init__(
        self, lane: int, start: int, num_pairs: int, most: int, rows_TH: FloatArray
    ) -> None:
        self.lane = lane
        self.start = start
        self.num_pairs = num_pairs
        self.most = most
        self.rows_TH = rows_TH
        self.guesses: list[int] = []
        self.chance = 1.0
        self.state: FloatArray | None = None

    def next_slice(self) -> LaneSlice:
        """Read the newest guess with its state."""
        return LaneSlice(self.lane, self.num_pairs + len(self.guesses) - 1, 1, 1)
