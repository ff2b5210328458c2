"""Choose the work of the next engine step.

Owns the policy only: plain values in, a frozen `Step` out. Never touches an array, a clock or a
block number, so every case can be tested with small literals. Called by `engine.Engine.step`.

The rules:
1. Every sequence that is decoding gets its one token first: a stalled stream is visible to its
   reader, a slightly later first token is not.
2. The rest of the token budget goes to prompts, cut into chunks: the most urgent first, of equals
   those that run already, then those that wait, in the order in which they are given.
3. A sequence is admitted, never past one before it, when all its known tokens find blocks and
   each running sequence could still take one more. Blocks for the prompt are reserved at once, so
   only decoding can run out of them.
4. Guesses at what follows (drafts) are checked beside a decoding token, with at most half of the
   budget that prompts could take and only in blocks that are free: they never delay anybody.
5. A sequence whose next block is being computed by one at least as urgent waits for it: the prompt
   that many share, as the answers of one request do, is computed once.
6. When blocks run out the last of the running gives all its blocks back and waits at the front; it
   is recomputed later. The first is never the one to give, so it always ends, and so do all.
7. One that waits and is more urgent than some that run takes their place when there is no other.
8. Where several steps are under way at once, a step is planned over the sequences of none of them.
   Those keep their seats and blocks until they are back. A step takes no more than its even share
   of the decoding, so that all steps, and with them all places of the model, have the same to do.
"""

import heapq
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import NewType

from banyan.engine.cache.key_value_blocks import BLOCK_SIZE, blocks_for

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
        priority: lower is more urgent.
    """

    sequence_id: SequenceId
    num_tokens: int
    num_computed: int
    num_blocks: int
    num_drafts: int = 0
    num_unshared: int | None = None
    next_block: Hashable | None = None
    priority: int = 0

    @property
    def num_freeable(self) -> int:
        """Blocks that come free when it gives back all, or that it takes from the free ones."""
        return self.num_blocks if self.num_unshared is None else self.num_unshared

    @property
    def is_decoding(self) -> bool:
        """True when one token is left to compute and some are in the cache."""
        return self.num_computed > 0 and self.num_tokens - self.num_computed == 1


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What steps that were begun and are not finished have taken.

    Attributes:
        num_sequences: those that hold a seat and blocks for them.
        next_blocks: the `Demand.next_block` of those that compute one.
    """

    num_sequences: int = 0
    next_blocks: frozenset[Hashable] = frozenset()


NOTHING_UNDER_WAY = UnderWay()
"""No other step."""


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


def even_share(num_decoding: int, num_in_flight: int) -> int:
    """How many sequences that are decoding one step takes at most.

    Args:
        num_decoding: all of them, those of steps under way included.
        num_in_flight: how many steps can be under way at once.
    """
    return -(-num_decoding // num_in_flight)


def plan_step(
    running: Sequence[Demand],
    waiting: Iterable[Demand],
    *,
    free_blocks: int,
    token_budget: int,
    max_running: int,
    most_decoding: int | None = None,
    under_way: UnderWay = NOTHING_UNDER_WAY,
) -> Step:
    """Plan one step.

    Args:
        running: the most urgent first, of equals the oldest; the last one is the first to go. None
            of a step that is under way.
        waiting: the most urgent first, of equals the one who is next. Read only as far as
            sequences are admitted, so it may be made on the way.
        free_blocks: blocks that can be handed out.
        token_budget: most tokens of the step.
        max_running: most sequences that run, those under way included.
        most_decoding: most sequences that decode in this step; None lets all.
        under_way: what other steps have taken.

    Raises:
        ValueError: the decoding sequences alone exceed `token_budget`.
    """
    num_kept, free_blocks = _keep_what_fits(running, free_blocks)
    if free_blocks < 0 and under_way.num_sequences:
        # Not even the first finds its block while others hold theirs: it goes on when they come.
        return Step((), (), ())
    if num_kept < len(running):
        waiting = ()
    elif running:
        room = _Room(free_blocks, max_running, under_way)
        num_kept, free_blocks, waiting = _outrank(running, waiting, room)
    kept, preempted = running[:num_kept], running[num_kept:]

    decoding = [demand for demand in kept if demand.is_decoding][:most_decoding]
    if len(decoding) > token_budget:
        raise ValueError(
            f"{len(decoding)} running sequences exceed the token budget {token_budget}"
        )
    budget = token_budget - len(decoding)
    granted = _grant_drafts(decoding, budget // 2, free_blocks)
    slices = [_slice(demand, 1, n) for demand, n in zip(decoding, granted, strict=True)]
    budget -= sum(granted)
    free_blocks -= sum(map(_new_blocks, decoding, granted)) - sum(map(_new_blocks, decoding))
    prompts = _Prompts(
        budget,
        free_blocks,
        num_running=len(kept) + under_way.num_sequences,
        max_running=max_running,
        in_work=set(under_way.next_blocks),
    )
    prompts.fill([demand for demand in kept if not demand.is_decoding], waiting)
    return Step(
        preempted=tuple(demand.sequence_id for demand in reversed(preempted)),
        admitted=tuple(prompts.admitted),
        slices=(*slices, *prompts.slices),
    )


@dataclass(frozen=True, slots=True)
class _Room:
    """Blocks and seats before a step, and what others have of them."""

    free_blocks: int
    max_running: int
    under_way: UnderWay


@dataclass(slots=True)
class _Prompts:
    """The room for prompts in a step, and who got it.

    Attributes:
        budget: tokens left.
        free_blocks: blocks left.
        num_running: sequences that run, those of other steps included.
        max_running: most of them.
        slices: what to compute.
        admitted: who starts.
        in_work: the next blocks of those who compute theirs, in this step or in one under way.
        is_open: whether one who waits may still find a place.
    """

    budget: int
    free_blocks: int
    num_running: int
    max_running: int
    slices: list[Slice] = field(default_factory=list)
    admitted: list[SequenceId] = field(default_factory=list)
    in_work: set[Hashable] = field(default_factory=set)
    is_open: bool = True

    def fill(self, running: Iterable[Demand], waiting: Iterable[Demand]) -> None:
        """Give room to prompts that run and to sequences that wait, by urgency."""
        if self.budget == 0:
            return
        num_left_out = 0
        both = heapq.merge(
            ((demand, False) for demand in running),
            ((demand, True) for demand in self._while_open(waiting)),
            key=lambda pair: pair[0].priority,
        )
        for demand, is_new in both:
            if not is_new:
                self._compute(demand)
            elif demand.next_block in self.in_work:
                # Looking through a long queue of equal prompts would take longer than the step.
                num_left_out += 1
                self.is_open = num_left_out < self.max_running
            else:
                self.is_open = self._admit(demand)
            if self.budget == 0:
                break

    def _while_open(self, waiting: Iterable[Demand]) -> Iterator[Demand]:
        """Those who wait, until one of them finds no place: none after it is looked at."""
        for demand in waiting:
            yield demand
            if not self.is_open:
                return

    def _admit(self, demand: Demand) -> bool:
        """Start a sequence; False when there is no place for it, nor for any after it."""
        needed = _blocks_to_start(demand)
        if not _has_place(self.num_running, self.max_running, self.free_blocks - needed):
            return False
        self.free_blocks -= needed
        self.num_running += 1
        self.admitted.append(demand.sequence_id)
        self._compute(demand)
        return True

    def _compute(self, demand: Demand) -> None:
        num_tokens = min(self.budget, demand.num_tokens - demand.num_computed)
        self.slices.append(_slice(demand, num_tokens))
        self.budget -= num_tokens
        if demand.next_block is not None:
            self.in_work.add(demand.next_block)


def _blocks_to_start(demand: Demand) -> int:
    """Free blocks that a waiting sequence takes, those it finds but nobody holds included."""
    return _new_blocks(demand) + demand.num_freeable


def _has_place(num_running: int, max_running: int, blocks_left: int) -> bool:
    # One spare block for each that runs: admitting into the last blocks would only preempt the
    # newcomer some steps later, after its prompt was computed in vain.
    return num_running < max_running and blocks_left >= num_running


def _outrank(
    running: Sequence[Demand], waiting: Iterable[Demand], room: _Room
) -> tuple[int, int, Iterable[Demand]]:
    """Make place for the first who waits, if only less urgent ones are in its way.

    Returns how many of the running stay, the blocks left then, and who may be admitted.
    """
    waiting, free_blocks = iter(waiting), room.free_blocks
    first = next(waiting, None)
    if first is None:
        return len(running), free_blocks, ()
    unchanged = len(running), free_blocks, chain((first,), waiting)
    is_in_work = first.next_block is not None and (
        first.next_block in room.under_way.next_blocks
        or any(
            demand.next_block == first.next_block and demand.priority <= first.priority
            for demand in running
        )
    )
    if is_in_work:
        return unchanged
    num_kept, num_others = len(running), room.under_way.num_sequences
    needed = _blocks_to_start(first)
    while not _has_place(num_kept + num_others, room.max_running, free_blocks - needed):
        if num_kept == 0 or running[num_kept - 1].priority <= first.priority:
            return unchanged
        num_kept -= 1
        free_blocks += _new_blocks(running[num_kept]) + running[num_kept].num_freeable
    if num_kept == len(running):
        return unchanged
    # What it finds may be held only by those who go, and is not free once it takes that over. When
    # there might be too little, they go now and it comes in the next step, when that is counted.
    first = replace(first, num_unshared=None)
    blocks_left = free_blocks - _blocks_to_start(first)
    may_enter = _has_place(num_kept + num_others, room.max_running, blocks_left)
    return num_kept, free_blocks, (first,) if may_enter else ()


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
    granted: list[int] = []
    if not any(demand.num_drafts for demand in decoding):
        return [0] * len(decoding)
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
