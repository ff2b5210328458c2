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
5. A sequence whose next block is being computed by one that runs waits for it: the prompt that
   many share, as the answers of one request do, is computed once.
5. When blocks run out the youngest sequence gives all its blocks back and waits at the front; it
   is recomputed later. The oldest is never the one to give, so it always ends, and so do all.
"""

from collections.abc import Hashable, Iterable, Sequence
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
        num_computed: how many of them are in the KV cache; always less than `num_tokens`. Of one
            that waits: how many it finds there.
        num_blocks: blocks it holds, or finds.
        num_drafts: guesses at the tokens that follow the known ones, to be checked when there is
            room; only a sequence that is decoding has any.
        num_unshared: those of `num_blocks` that no other sequence holds. Giving them back, or
            taking them, changes the number of free blocks; None when all are unshared.
        next_block: equal for sequences whose next whole block has the same contents; None when
            that is not known or there is no whole one.
    """

    sequence_id: SequenceId
    num_tokens: int
    num_computed: int
    num_blocks: int
    num_drafts: int = 0
    num_unshared: int | None = None
    next_block: Hashable | None = None

    @property
    def num_freeable(self) -> int:
        """Blocks that come free when it gives back all, or that it takes from the free ones."""
        return self.num_blocks if self.num_unshared is None else self.num_unshared

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

    @property
    def num_decoded(self) -> int | None:
        """Tokens of a step that decodes and checks guesses; None when it computes prompts too."""
        if any(slice_.num_tokens > 1 or not slice_.reaches_end for slice_ in self.slices):
            return None
        return len(self.slices) + sum(slice_.drafts for slice_ in self.slices)


def plan_step(
    running: Sequence[Demand],
    waiting: Iterable[Demand],
    *,
    free_blocks: int,
    token_budget: int,
    max_running: int,
) -> Step:
    """Plan one step; both are in order of arrival, oldest first.

    `waiting` is read only as far as sequences are admitted, so it may be made on the way.

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

    admitted: list[Slice] = []
    if not preempted:
        admitted = _admit(
            waiting,
            free_blocks=free_blocks,
            budget=budget,
            num_running=len(kept),
            max_running=max_running,
            in_work={demand.next_block for demand in kept} - {None},
        )
    return Step(
        preempted=tuple(demand.sequence_id for demand in reversed(preempted)),
        admitted=tuple(slice_.sequence_id for slice_ in admitted),
        slices=(*slices, *admitted),
    )


def _admit(
    waiting: Iterable[Demand],
    *,
    free_blocks: int,
    budget: int,
    num_running: int,
    max_running: int,
    in_work: set[Hashable],
) -> list[Slice]:
    """The slices of those that start now; `in_work` are the blocks being computed already."""
    slices: list[Slice] = []
    if budget == 0 or num_running == max_running:
        return slices
    for demand in waiting:
        if demand.next_block in in_work:
            continue
        needed = _new_blocks(demand) + demand.num_freeable
        # One spare block for each that runs: admitting into the last blocks would only preempt
        # the newcomer some steps later, after its prompt was computed in vain.
        if free_blocks - needed < num_running:
            break
        slices.append(_slice(demand, min(budget, demand.num_tokens - demand.num_computed)))
        in_work |= {demand.next_block} - {None}
        num_running += 1
        budget -= slices[-1].num_tokens
        free_blocks -= needed
        if budget == 0 or num_running == max_running:
            break
    return slices


def _keep_what_fits(running: Sequence[Demand], free_blocks: int) -> tuple[int, int]:
    """How many of the oldest can go on, and the blocks left then."""
    growth = [_new_blocks(demand) for demand in running]
    free_blocks -= sum(growth)
    num_kept = len(running)
    # The oldest always fits alone. Counting may fall short of that when those that go share
    # blocks with each other only; nothing is admitted in such a step, so that does no harm.
    while free_blocks < 0 and num_kept > 1:
        num_kept -= 1
        free_blocks += growth[num_kept] + running[num_kept].num_freeable
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
