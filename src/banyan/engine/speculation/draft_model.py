"""Guess by asking a smaller model of the same vocabulary, which runs ahead token by token.

After Leviathan et al. 2023 (arXiv:2211.17192) and Chen et al. 2023 (arXiv:2302.01318). The draft
model always says its likeliest token, so a guess is certain and checking it needs no probabilities.
It keeps a cache of its own: blocks and lanes here are its, not the engine's. Dims: R rows, V words.
"""

from collections.abc import Sequence

from banyan.engine.cache.key_value_blocks import blocks_for
from banyan.engine.cache.sequence_table import SequenceTable
from banyan.engine.options import EngineLimits
from banyan.engine.runner import FloatArray, LaneSlice, Runner, StepModel
from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.speculation.proposer import DraftDemand


class DraftModel:
    """Runs a draft model beside the engine's.

    Args:
        model: the draft model's step; its cache has `limits.num_blocks` blocks.
        limits: of the draft model. A sequence that finds no lane, no block or no room in its
            context gets no guesses.
        vocab_size: words of the model that checks; a guess outside them ends the guesses.
    """

    is_free = False

    def __init__(self, model: StepModel, limits: EngineLimits, *, vocab_size: int) -> None:
        self._limits = limits
        self._vocab_size = vocab_size
        self._table = SequenceTable(limits.max_num_seqs, limits.max_model_len)
        self._runner = Runner(model, self._table)
        self._free_blocks = list(range(limits.num_blocks))
        self._followed: dict[SequenceId, _Followed] = {}

    def propose(self, demands: Sequence[DraftDemand]) -> list[list[int]]:
        """Run up to `most` steps ahead, all sequences together."""
        paths: dict[SequenceId, _Path] = {}
        for demand in demands:
            path = self._follow(demand)
            if path is not None:
                paths[demand.sequence_id] = path
        going = self._read(list(paths.values()))
        while going:
            logits_RV = self._runner.run([path.next_slice() for path in going])
            going = self._write(going, logits_RV)
        return [
            paths[demand.sequence_id].guesses if demand.sequence_id in paths else []
            for demand in demands
        ]

    def forget(self, sequence_id: SequenceId) -> None:
        """Give back the lane and the blocks of a sequence."""
        followed = self._followed.pop(sequence_id, None)
        if followed is not None:
            self._free_blocks.extend(followed.blocks)
            self._table.close_lane(followed.lane)

    def _follow(self, demand: DraftDemand) -> "_Path | None":
        """Take note of the tokens that came; None where there is no room to run ahead."""
        num_tokens = len(demand.token_ids)
        count = min(demand.most, self._limits.max_model_len - num_tokens)
        followed = self._followed.get(demand.sequence_id)
        num_new = blocks_for(num_tokens + count) - (len(followed.blocks) if followed else 0)
        if count < 1 or num_new > len(self._free_blocks):
            return None
        if followed is None:
            if len(self._followed) == self._limits.max_num_seqs:
                return None
            followed = _Followed(self._table.open_lane([]))
            self._followed[demand.sequence_id] = followed
        if num_new > 0:
            blocks = [self._free_blocks.pop() for _ in range(num_new)]
            self._table.append_blocks(followed.lane, len(followed.blocks), blocks)
            followed.blocks += blocks
        self._note_tokens(followed, demand.token_ids)
        return _Path(followed, num_tokens, count)

    def _note_tokens(self, followed: "_Followed", token_ids: Sequence[int]) -> None:
        """Keep what was computed of right guesses, and write the tokens over the others."""
        known = followed.num_known
        came = list(token_ids[known:])
        guessed = self._table.tokens_LT[followed.lane, known : known + len(came)].tolist()
        num_right = 0
        while num_right < len(came) and came[num_right] == guessed[num_right]:
            num_right += 1
        # The newest token is always computed: its logits are the first guess.
        followed.num_computed = min(followed.num_computed, known + num_right, len(token_ids) - 1)
        followed.num_known = len(token_ids)
        self._table.append_tokens(followed.lane, known, came)

    def _read(self, paths: Sequence["_Path"]) -> "list[_Path]":
        """Compute the tokens that came, in steps within the token budget; makes first guesses."""
        going: list[_Path] = []
        waiting = list(paths)
        while waiting:
            slices, ready, budget = [], [], self._limits.token_budget
            while waiting and budget > 0:
                path = waiting[0]
                count = min(budget, path.num_tokens - path.followed.num_computed)
                budget -= count
                start = path.followed.num_computed
                path.followed.num_computed += count
                is_whole = path.followed.num_computed == path.num_tokens
                slices.append(LaneSlice(path.followed.lane, start, count, int(is_whole)))
                if is_whole:
                    ready.append(waiting.pop(0))
            going += self._write(ready, self._runner.run(slices))
        return going

    def _write(self, paths: "Sequence[_Path]", logits_RV: FloatArray) -> "list[_Path]":
        """Add the likeliest token to each path; returns those that go on."""
        going = []
        for path, token_id in zip(paths, logits_RV.argmax(axis=1).tolist(), strict=True):
            if token_id >= self._vocab_size:
                continue
            place = path.num_tokens + len(path.guesses)
            self._table.append_tokens(path.followed.lane, place, [token_id])
            path.guesses.append(token_id)
            if len(path.guesses) < path.count:
                going.append(path)
        return going


class _Followed:
    """A sequence in the draft model's cache; `num_computed` of its `num_known` tokens are there.

    After guessing more than is known is computed: the guesses themselves.
    """

    __slots__ = ("blocks", "lane", "num_computed", "num_known")

    def __init__(self, lane: int) -> None:
        self.lane = lane
        self.blocks: list[int] = []
        self.num_known = 0
        self.num_computed = 0


class _Path:
    """Guesses in the making: `count` of them behind `num_tokens` known tokens."""

    __slots__ = ("count", "followed", "guesses", "num_tokens")

    def __init__(self, followed: _Followed, num_tokens: int, count: int) -> None:
        self.followed = followed
        self.num_tokens = num_tokens
        self.count = count
        self.guesses: list[int] = []

    def next_slice(self) -> LaneSlice:
        """Compute the newest guess."""
        start = self.followed.num_computed
        self.followed.num_computed += 1
        return LaneSlice(self.followed.lane, start, 1, 1)
