"""Choose the work of the next engine step.

Owns the policy only: plain values in, a frozen `Step` out. Never touches an array, a clock or a
block number, so every case can be tested with small literals. Called by `engine.Engine.step`.

The rules:
1. Every sequence that is decoding gets its one token first: a stalled stream is visible to its
   reader, a slightly later first token is not.
2. The rest of the token budget goes to prompts, oldest first, cut into chunks.
3. A sequence is admitted, strictly in order of arrival, when all its known tokens find blocks and
   each running sequence could still take one more. Blocks for the prompt are reserved at once, so
   only decoding can run out of them.
4. Guesses at what follows (drafts) are checked beside a decoding token, with at most half of the
   budget that prompts could take and only in blocks that are free: they never delay anybody.
5. When blocks run out the youngest sequence gives all its blocks back and waits at the front; it
   is recomputed later. The oldest is never the one to give, so it always ends, and so do all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType

from banyan.engine.key_value_blocks import BLOCK_SIZE, blocks_for

SequenceId = NewType("SequenceId", int)


@dataclass(frozen=True, slots=True)
class Demand:
    """One sequence as the scheduler sees it.

    Attributes:
        sequence_id: whose demand this is.
        num_tokens: tokens known so far, prompt and answer.
        num_computed: how many of them are in the KV cache; always less than `num_tokens`.
        num_blocks: blocks it holds.
        num_drafts: guesses at the tokens that follow the known ones, to be checked when there is
            room; only a sequence that is decoding has any.
    """

    sequence_id: SequenceId
    num_tokens: int
    num_computed: int
    num_blocks: int
    num_drafts: int = 0

    @property
    def is_decoding(self) -> bool:
        """True when one token is left to compute and some are in the cache."""
        return self.num_computed > 0 and self.num_tokens - self.num_computed == 1


@dataclass(frozen=True, slots=True)
class Slice:
    """Compute the next `num_tokens` tokens of a sequence.

    Attributes:
        sequence_id: whose tokens.
        num_tokens: how many, 1 or more.
        new_blocks: blocks to reserve for it before.
        reaches_end: the last known token is among them, so a new one is sampled.
        drafts: how many of the guesses are computed behind them, each with its logits.
    """

    sequence_id: SequenceId
    num_tokens: int
    new_blocks: int
    reaches_end: bool
    drafts: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """The work of one step, in the order in which the engine must carry it out.

    Attributes:
        preempted: running sequences that give back all blocks, youngest first.
        admitted: waiting sequences that start running, oldest first.
        slices: what to compute; decoding first. Empty when there is nothing to do.
    """

    preempted: tuple[SequenceId, ...]
    admitted: tuple[SequenceId, ...]
    slices: tuple[Slice, ...]


def plan_step(
    running: Sequence[Demand],
    waiting: Sequence[Demand],
    *,
    free_blocks: int,
    token_budget: int,
    max_running: int,
) -> Step:
    """Plan one step; both sequences are in order of arrival, oldest first.

    Raises:
        ValueError: the running sequences alone exceed `token_budget`.
    """
    if len(running) > token_budget:
        raise ValueError(f"{len(running)} running sequences exceed the token budget {token_budget}")
    num_kept, free_blocks = _keep_what_fits(running, free_blocks)
    kept, preempted = running[:num_kept], running[num_kept:]

    decoding = [demand for demand in kept if demand.is_decoding]
    budget = token_budget - len(decoding)
    granted = _grant_drafts(decoding, budget // 2, free_blocks)
    slices = [_slice(demand, 1, n) for demand, n in zip(decoding, granted, strict=True)]
    budget -= sum(granted)
    free_blocks -= sum(map(_new_blocks, decoding, granted)) - sum(map(_new_blocks, decoding))
    for demand in kept:
        if budget > 0 and not demand.is_decoding:
            slices.append(_slice(demand, min(budget, demand.num_tokens - demand.num_computed)))
            budget -= slices[-1].num_tokens

    admitted: list[SequenceId] = []
    if not preempted:
        for demand in waiting:
            num_running = len(kept) + len(admitted)
            needed = blocks_for(demand.num_tokens)
            # One spare block for each that runs: admitting into the last blocks would only
            # preempt the newcomer some steps later, after its prompt was computed in vain.
            if budget == 0 or num_running == max_running or free_blocks - needed < num_running:
                break
            slices.append(_slice(demand, min(budget, demand.num_tokens)))
            admitted.append(demand.sequence_id)
            budget -= slices[-1].num_tokens
            free_blocks -= needed
    return Step(
        preempted=tuple(demand.sequence_id for demand in reversed(preempted)),
        admitted=tuple(admitted),
        slices=tuple(slices),
    )


def _keep_what_fits(running: Sequence[Demand], free_blocks: int) -> tuple[int, int]:
    """How many of the oldest can go on, and the blocks left then."""
    growth = [_new_blocks(demand) for demand in running]
    free_blocks -= sum(growth)
    num_kept = len(running)
    while free_blocks < 0:
        num_kept -= 1
        free_blocks += growth[num_kept] + running[num_kept].num_blocks
    return num_kept, free_blocks


def _grant_drafts(decoding: Sequence[Demand], budget: int, free_blocks: int) -> list[int]:
    """How many guesses of each sequence are checked, oldest first."""
    granted = []
    for demand in decoding:
        # The last block of the known tokens has room that costs nothing.
        held = BLOCK_SIZE * blocks_for(demand.num_tokens)
        room = held + BLOCK_SIZE * free_blocks - demand.num_tokens
        granted.append(max(0, min(demand.num_drafts, budget, room)))
        budget -= granted[-1]
        free_blocks -= _new_blocks(demand, granted[-1]) - _new_blocks(demand)
    return granted


def _new_blocks(demand: Demand, num_drafts: int = 0) -> int:
    return blocks_for(demand.num_tokens + num_drafts) - demand.num_blocks


def _slice(demand: Demand, num_tokens: int, num_drafts: int = 0) -> Slice:
    end = demand.num_computed + num_tokens
    return Slice(
        demand.sequence_id,
        num_tokens,
        _new_blocks(demand, num_drafts),
        end == demand.num_tokens,
        num_drafts,
    )
