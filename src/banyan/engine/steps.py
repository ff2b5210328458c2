"""The steps of an engine: planned, begun, finished.

Owns those that are under way: as many as `PipelineDepth` says, each over sequences of its own,
finished in the order in which they were begun. With one at a time a step is over before the next is
planned. Decides nothing itself: see `scheduler`, `pacing`, `pipeline_depth`, `verification`.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from banyan.engine.events import TokenEvent
from banyan.engine.requests.counts import EngineCounts
from banyan.engine.requests.publishing import advance
from banyan.engine.requests.reception import Reception
from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.requests.residency import Residency
from banyan.engine.requests.seats import Seats
from banyan.engine.requests.sight import Sight
from banyan.engine.requests.steady_load import SteadyLoad
from banyan.engine.requests.structuring import Structuring
from banyan.engine.runner import LaneSlice, PendingStep, Runner
from banyan.engine.scheduling.pacing import Pacing
from banyan.engine.scheduling.pipeline_depth import PipelineDepth
from banyan.engine.scheduling.scheduler import (
    NOTHING_UNDER_WAY,
    Demand,
    SequenceId,
    Slice,
    Step,
    UnderWay,
    even_share,
    plan_step,
)
from banyan.engine.speculation.speculator import Speculator
from banyan.engine.speculation.verification import verify
from banyan.engine.structure.masks import RowMasks
from banyan.engine.tokens.prompt_scores import score_slice
from banyan.foundation.errors import BanyanError

Settle = Callable[[Answer, TokenEvent], None]
"""Told of what is new in an answer, and whether it ended."""

_Drafts = Mapping[SequenceId, Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepParts:
    """What steps read and change; one engine has one of each.

    Attributes:
        runner: computes a step.
        residency: lanes and blocks.
        seats: who runs.
        reception: who waits.
        pacing: how many tokens a step may have.
        depth: how many steps may be under way.
        sight: what prompts show.
        structuring: what answers must look like.
        counts: what was done.
        speculator: guesses tokens; None where nobody does.
        steady_load: says when answers may begin; None lets them as soon as there is room.
        clock: seconds that only go forward.
    """

    runner: Runner
    residency: Residency
    seats: Seats
    reception: Reception
    pacing: Pacing
    depth: PipelineDepth
    sight: Sight
    structuring: Structuring
    counts: EngineCounts
    speculator: Speculator | None
    steady_load: SteadyLoad | None
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Begun:
    """A step under way.

    Attributes:
        step: the plan.
        answers: of its slices, in order.
        lane_slices: what is computed, in order.
        unscored: those of them that are left to the run: without those of prompts with scores.
        ends: the answers that get tokens, in order.
        checked: the guesses of each of them that are computed with it.
        masks: what their structures forbid.
        next_blocks: contents of blocks that it computes, which others may wait for.
        run: the model at work.
        began: when, by the engine's clock.
        has_others: whether others may be planned while this one is under way.
    """

    step: Step
    answers: Sequence[Answer]
    lane_slices: Sequence[LaneSlice]
    unscored: Sequence[LaneSlice]
    ends: Sequence[Answer]
    checked: Sequence[Sequence[int]]
    masks: RowMasks
    next_blocks: frozenset[Hashable]
    run: PendingStep
    began: float
    has_others: bool


@dataclass(frozen=True, slots=True)
class _Planned:
    """A step, and the guesses of which it checks some."""

    step: Step
    drafts: _Drafts


class Steps:
    """Plans steps over those that rest, and brings what comes of them to the answers."""

    def __init__(self, parts: StepParts, *, max_num_seqs: int) -> None:
        """Take the parts of an engine.

        Args:
            parts: see there.
            max_num_seqs: most sequences that run.
        """
        self._parts = parts
        self._max_num_seqs = max_num_seqs
        self._begun: deque[_Begun] = deque()

    @property
    def is_under_way(self) -> bool:
        """Whether a step was begun and not finished."""
        return bool(self._begun)

    def begin(self) -> bool:
        """Begin the next step, if there is one and the model takes it; false when it has to wait.

        Whoever is admitted has left the line then.
        """
        parts, depth = self._parts, self._parts.depth.current
        if len(self._begun) >= depth:
            return False
        resting = parts.seats.at_rest()
        has_seat = parts.seats.num_taken < self._max_num_seqs
        if self._begun and not resting and not (has_seat and parts.reception.line):
            return False
        planned = self._plan(resting, depth, has_seat=has_seat)
        step = planned.step
        if self._begun and self._has_scores(step):
            # Those are computed bit by bit, each run finished before the next: not between others.
            return False
        began = parts.clock()
        line = parts.reception.line
        parts.reception.note_step([line[admitted] for admitted in step.admitted], now=began)
        answers, lane_slices = self._carry_out(planned)
        if not lane_slices:
            return False
        ends = [
            (answer, planned.drafts.get(slice_.sequence_id, ())[: slice_.drafts])
            for answer, slice_ in zip(answers, step.slices, strict=True)
            if slice_.reaches_end
        ]
        # Filled in a thread while the model runs.
        masks = parts.structuring.begin_masks(
            [a for a, _ in ends], [guesses for _, guesses in ends]
        )
        unscored = self._score_prompts(answers, lane_slices)
        run = parts.runner.begin(unscored)
        if depth > 1:
            parts.seats.set_out(answers)
        self._begun.append(
            _Begun(
                step,
                answers,
                lane_slices,
                unscored,
                [answer for answer, _ in ends],
                [guesses for _, guesses in ends],
                masks,
                self._next_blocks(answers) if depth > 1 else frozenset(),
                run,
                began,
                depth > 1,
            )
        )
        return True

    def finish(self, settle: Settle) -> list[TokenEvent]:
        """Wait for the oldest step under way, if any; returns what came of it.

        `settle` is called for each answer that got tokens. Those that left meanwhile get none, and
        give back their place.
        """
        if not self._begun:
            return []
        parts, num_under_way = self._parts, len(self._begun)
        begun = self._begun.popleft()
        results = begun.run.finish()
        parts.counts.note_step(begun.step)
        if parts.steady_load is not None:
            parts.steady_load.note_step(parts.depth.current)
        staying = begun.answers
        if begun.has_others:
            staying = parts.seats.come_back(begun.answers)
        left = len(begun.answers) - len(staying)
        if parts.speculator is not None:
            parts.speculator.note_hidden(results.hidden, begun.unscored, answers=staying)
        computed = zip(begun.answers, begun.step.slices, strict=True)
        self._note_computed(computed if not left else self._of_running(computed))
        events = []
        if begun.ends:
            begun.masks.wait()
            samplers = [answer.sampler for answer in begun.ends]
            chosen = verify(results.logits, samplers, begun.checked, begun.masks)
            for answer, tokens, guesses in zip(begun.ends, chosen, begun.checked, strict=True):
                if left and answer.sequence_id not in parts.seats.running:
                    continue
                self._note_accepted(answer, guesses, num_accepted=len(tokens) - 1)
                events.append(advance(answer, tokens))
                settle(answer, events[-1])
        if parts.speculator is not None:
            parts.speculator.finish_step(begun.step.num_decoded)
        now = parts.clock()
        parts.pacing.note(begun.lane_slices, now - begun.began)
        parts.depth.note(
            begun.step, num_running=parts.seats.num_taken, num_under_way=num_under_way, now=now
        )
        return events

    def close(self) -> None:
        """Let the model finish what was begun; nothing comes of it."""
        while self._begun:
            with suppress(BanyanError):
                self._begun.popleft().run.finish()

    def _plan(self, resting: Sequence[Answer], depth: int, *, has_seat: bool) -> _Planned:
        """Plan a step over those at rest; who is admitted is still in the line afterwards."""
        parts = self._parts
        line, residency = parts.reception.line, parts.residency
        decoding, share = resting, None
        if depth > 1:
            decoding = [answer for answer in resting if answer.is_decoding]
            share = self._share(len(decoding), depth)
            decoding = decoding[:share]
        drafts: _Drafts = {}
        if parts.speculator is not None and resting:
            drafts = parts.speculator.drafts(decoding)
        if line and has_seat:
            residency.bring_back(next(iter(line)))
        most_urgent = line.most_urgent
        running: list[Demand] = []
        for answer in resting:
            is_outranked = most_urgent is not None and answer.priority > most_urgent
            has_seat |= is_outranked
            num_drafts = len(drafts.get(answer.sequence_id, ()))
            running.append(residency.running_demand(answer, num_drafts, is_outranked=is_outranked))
        step = plan_step(
            running,
            # Made only as far as they are looked at; a queue of thousands costs nothing.
            residency.waiting_demands(self._ready()) if has_seat else (),
            free_blocks=residency.num_free_blocks,
            token_budget=parts.pacing.token_budget(running, num_in_flight=depth),
            max_running=self._max_num_seqs,
            most_decoding=share,
            under_way=self._under_way(),
        )
        return _Planned(step, drafts)

    def _share(self, num_resting: int, depth: int) -> int:
        """How many of those that rest may decode in the next step."""
        num_under_way = sum(len(begun.ends) for begun in self._begun)
        return even_share(num_resting + num_under_way, depth)

    def _under_way(self) -> UnderWay:
        if not self._begun:
            return NOTHING_UNDER_WAY
        next_blocks = frozenset(key for begun in self._begun for key in begun.next_blocks)
        return UnderWay(self._parts.seats.num_under_way, next_blocks)

    def _ready(self) -> Iterable[Answer]:
        """Those who wait for nothing but a place."""
        parts = self._parts
        line: Iterable[Answer] = parts.reception.line
        if parts.steady_load is not None:
            running, num_waiting = parts.seats.running.values(), len(parts.reception.line)
            count = parts.steady_load.num_admissible(line, running, num_waiting=num_waiting)
            line = islice(line, count)
        return parts.sight.seatable(line, parts.residency.num_found)

    def _has_scores(self, step: Step) -> bool:
        running, line = self._parts.seats.running, self._parts.reception.line
        return any(
            (running.get(slice_.sequence_id) or line[slice_.sequence_id]).computes_all
            for slice_ in step.slices
        )

    def _carry_out(self, planned: _Planned) -> tuple[list[Answer], list[LaneSlice]]:
        """Move sequences and blocks as planned; returns who computes, and which part by lane."""
        parts, step = self._parts, planned.step
        self._preempt(step.preempted)
        admitted = [parts.reception.line.remove(sequence_id) for sequence_id in step.admitted]
        for answer in admitted:
            parts.seats.enter(answer)
        if parts.steady_load is not None:
            parts.steady_load.note_begun(sum(answer.num_generated == 0 for answer in admitted))
        answers = [parts.seats.running[slice_.sequence_id] for slice_ in step.slices]
        lane_slices = [
            self._lane_slice(answer, slice_, planned.drafts)
            for answer, slice_ in zip(answers, step.slices, strict=True)
        ]
        return answers, lane_slices

    def _lane_slice(self, answer: Answer, slice_: Slice, drafts: _Drafts) -> LaneSlice:
        """Give a sequence what it needs for its part of a step."""
        assert answer.lane is not None
        if slice_.new_blocks:
            self._parts.residency.grow(answer, slice_.new_blocks)
        num_tokens, num_logits = slice_.num_tokens, int(slice_.reaches_end)
        if slice_.drafts:
            guesses = drafts[slice_.sequence_id][: slice_.drafts]
            self._parts.residency.append_tokens(answer, len(answer.token_ids), guesses)
            num_tokens += slice_.drafts
            num_logits += slice_.drafts
        return LaneSlice(answer.lane, answer.num_computed, num_tokens, num_logits)

    def _preempt(self, sequence_ids: Sequence[SequenceId]) -> None:
        parts = self._parts
        for sequence_id in sequence_ids:
            answer = parts.seats.stand_back(sequence_id)
            if parts.speculator is not None:
                parts.speculator.stand_back(sequence_id)
            parts.reception.line.stand_back(answer)
            parts.counts.preemptions += 1

    def _score_prompts(
        self, answers: Sequence[Answer], lane_slices: Sequence[LaneSlice]
    ) -> Sequence[LaneSlice]:
        """Compute apart the slices whose prompts want scores; returns what is left of the step."""
        left = []
        for answer, lane_slice in zip(answers, lane_slices, strict=True):
            scores = answer.prompt_scores
            if scores is None or scores.is_complete:
                left.append(lane_slice)
            elif (rest := score_slice(self._parts.runner, scores, lane_slice)) is not None:
                left.append(rest)
        return left

    def _next_blocks(self, answers: Iterable[Answer]) -> frozenset[Hashable]:
        """What the next whole block of each prompt will hold, where others may want to know."""
        demands = map(self._parts.residency.running_demand, answers)
        return frozenset(d.next_block for d in demands if d.next_block is not None)

    def _of_running(
        self, computed: Iterable[tuple[Answer, Slice]]
    ) -> Iterable[tuple[Answer, Slice]]:
        running = self._parts.seats.running
        return ((answer, slice_) for answer, slice_ in computed if answer.sequence_id in running)

    def _note_computed(self, computed: Iterable[tuple[Answer, Slice]]) -> None:
        """Count the known tokens that the model has computed."""
        parts = self._parts
        for answer, slice_ in computed:
            if answer.num_generated == 0 or not slice_.reaches_end or slice_.num_tokens > 1:
                parts.counts.prefilled += slice_.num_tokens
                parts.reception.charge(answer, num_prompt=slice_.num_tokens)
            answer.num_computed += slice_.num_tokens
            parts.residency.note_computed(answer)
            parts.sight.note_computed(answer)

    def _note_accepted(self, answer: Answer, guesses: Sequence[int], *, num_accepted: int) -> None:
        parts = self._parts
        if parts.speculator is not None and guesses:
            parts.counts.drafted += len(guesses)
            parts.counts.accepted += num_accepted
            parts.speculator.note(answer, num_drafted=len(guesses), num_accepted=num_accepted)
