"""The engine: admits requests, plans a step, runs it, chooses tokens, publishes them.

Owns all state of serving one model; the decisions are in `scheduler`, `admission` and `sampler`.
Not thread-safe: one thread calls it. Called by `LLM` and by the engine process.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from banyan.engine.adapters.library import AdapterLibrary
from banyan.engine.cache.block_spill import BlockSpill
from banyan.engine.events import EngineStatistics, TokenEvent
from banyan.engine.options import EngineLimits, QueuePolicy
from banyan.engine.request_context import ORDINARY, RequestContext
from banyan.engine.requests.adapter_use import AdapterUse, adapter_use
from banyan.engine.requests.admission import admit
from banyan.engine.requests.answer_maker import AnswerMaker
from banyan.engine.requests.counts import EngineCounts
from banyan.engine.requests.publishing import advance, event_of, replay
from banyan.engine.requests.reception import Reception, Refusal
from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.requests.residency import Residency
from banyan.engine.requests.sight import Sight
from banyan.engine.requests.structuring import Structuring
from banyan.engine.runner import LaneSlice, Runner, StepModel
from banyan.engine.sampling import SamplingOptions
from banyan.engine.scheduling.pacing import Pacing
from banyan.engine.scheduling.scheduler import Demand, SequenceId, Step, plan_step
from banyan.engine.speculation.speculator import Speculator
from banyan.engine.speculation.verification import verify
from banyan.engine.structure.guidance import StructureCompiler
from banyan.engine.tokens.detokenizer import TextDecoder
from banyan.engine.tokens.prompt_scores import score_slice
from banyan.engine.vision.eyes import Eyes, SeeingStep
from banyan.foundation.errors import RequestError
from banyan.models.vision.media import Media


class Engine:
    """Serves many requests on one model, step by step.

    Args:
        model: computes a decoder step; its KV cache has `limits.num_blocks` blocks.
        limits: lengths and counts, checked against each other.
        vocab_size: token ids are 0 .. vocab_size - 1.
        end_token_ids: the model's end-of-sequence tokens.
        tokenizer: turns tokens into text; None gives no text and no stop strings.
        seed: for requests that bring none; None draws a fresh one for each.
        speculator: guesses tokens that the model then checks; None goes token by token.
        structures: compiles the shapes that answers must have; None refuses such requests.
        enable_prefix_caching: reuse what was computed for equal beginnings of prompts.
        spill: keeps evicted blocks elsewhere and brings them back; None forgets them.
        policy: how long the queue may be and how fast it should move.
        clock: seconds that only go forward.
        adapters: those that requests can name, seated in the slots of the model; None for a model
            without slots. Changed by its owner between steps.
        eyes: turn the images of prompts into rows for `model`; None for one that reads text only.
    """

    def __init__(
        self,
        model: StepModel,
        limits: EngineLimits,
        *,
        vocab_size: int,
        end_token_ids: Collection[int] = (),
        tokenizer: TextDecoder | None = None,
        seed: int | None = None,
        speculator: Speculator | None = None,
        structures: StructureCompiler | None = None,
        enable_prefix_caching: bool = True,
        spill: BlockSpill | None = None,
        policy: QueuePolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        adapters: AdapterLibrary | None = None,
        eyes: Eyes | None = None,
    ) -> None:
        self.limits = limits
        self.vocab_size = vocab_size
        self._end_token_ids = frozenset(end_token_ids)
        self._tokenizer = tokenizer
        self._maker = AnswerMaker(tokenizer, seed)
        self._clock = clock
        self._speculator = speculator
        self._structuring = Structuring(structures, vocab_size=vocab_size)
        self.adapters = adapters
        self._residency = Residency(
            limits, shares_prefixes=enable_prefix_caching, adapters=adapters, spill=spill
        )
        policy = policy or QueuePolicy()
        self._sight = Sight(eyes, most_file_bytes=policy.most_image_bytes)
        seeing = model if eyes is None else SeeingStep(model, eyes)
        self._runner = Runner(seeing, self._residency.table, self._sight.seen)
        self._reception = Reception(policy)
        self._pacing = Pacing(policy, limits)
        if spill is not None:
            spill.compare_with(self._pacing.compute_seconds)
        self._running: dict[SequenceId, Answer] = {}
        # Only those that are not finished: a finished one gives back what it remembers.
        self._answers: dict[str, list[Answer]] = {}
        self._pending_events: list[TokenEvent] = []
        self._refusals: list[Refusal] = []
        self._counts = EngineCounts()

    def add_request(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        options: SamplingOptions,
        context: RequestContext = ORDINARY,
        told: Sequence[Sequence[int] | None] = (),
        media: Sequence[Media] = (),
    ) -> None:
        """Queue a request; its events come out of `step`.

        `media` are the images of the prompt, in order of their places. `told` takes up a request
        that another engine began: for each of its answers the tokens that its reader has, or None
        when the answer is whole. Only what is new comes out, and a seed goes on as it would have
        there.

        Raises:
            RequestError: it cannot be served; the sentence says why.
            Overloaded: too many wait already; says when to come back.
        """
        if request_id in self._answers:
            raise RequestError(f"a request {request_id!r} is already being served")
        if options.stop_strings and self._tokenizer is None:
            raise RequestError("stop strings need a tokenizer, and this model has none")
        request = admit(
            request_id,
            prompt_token_ids,
            options,
            context,
            limits=self.limits,
            vocab_size=self.vocab_size,
            end_token_ids=self._end_token_ids,
            adapters=self.adapters,
            sight=self._sight.read(prompt_token_ids, media, is_new=not told),
        )
        if not told:  # one that was let in before is not turned away now
            begin_seconds = self._pacing.begin_seconds(len(prompt_token_ids))
            refusals = self._reception.make_room(
                request,
                self._answers,
                begin_seconds,
                num_on_the_way=self._structuring.num_compiling,
            )
            self._give_up(refusals)
        now = self._clock()
        answers = [
            answer
            for answer in self._maker.answers(request, arrived=now)
            if not told or told[answer.index] is not None
        ]
        if told:
            self._structuring.prepare(options)
        structure = options.structure
        is_ready = structure is None or self._structuring.admit(answers, structure)
        for answer in answers if told else ():
            replay(answer, told[answer.index] or ())
        self._sight.begin(answers)
        if is_ready:
            self._join(answers)
        self._answers[request_id] = answers

    def prepare(self, options: SamplingOptions) -> None:
        """Do now what a request with these options would have to wait for: compile its structure.

        Raises:
            RequestError: the structure cannot be used; says where it is wrong.
        """
        self._structuring.prepare(options)

    def cancel(self, request_id: str) -> None:
        """Stop a request and free its blocks now; an unknown or finished one is no error.

        Each of its unfinished answers is published as "cancelled" by the next step.
        """
        for answer in self._answers.pop(request_id, ()):
            text = answer.text.finish()
            self._finish(answer)
            self._pending_events.append(event_of(answer, text=text, finish_reason="cancelled"))

    def has_work(self) -> bool:
        """True when the next step does or publishes something."""
        is_compiling = self._structuring.is_compiling
        is_said = not (self._pending_events or self._refusals)
        return bool(self._running or self._reception.line or is_compiling or not is_said)

    def take_refusals(self) -> list[Refusal]:
        """Return, once, the requests that were given up since the last call, and why.

        Nothing more comes of them, nor does anything come that was not taken yet.
        """
        refusals, self._refusals = self._refusals, []
        return refusals

    def step(self) -> list[TokenEvent]:
        """Do one step and return what came of it, in no order between requests."""
        self._give_up(self._reception.overdue(self._clock(), self._answers))
        events, self._pending_events = self._pending_events, []
        events += self._take_structured()
        found, is_idle = self._residency.num_found, not (self._running or events)
        self._give_up(self._sight.advance(self._reception.line, found, is_idle=is_idle))
        drafts = self._drafts()
        step = self._plan(drafts)
        began = self._clock()
        self._reception.note_step(
            [self._reception.line[sequence_id] for sequence_id in step.admitted], now=began
        )
        lane_slices = self._carry_out(step, drafts)
        if not lane_slices:
            return events
        ends = [slice_ for slice_ in step.slices if slice_.reaches_end]
        answers = [self._running[slice_.sequence_id] for slice_ in ends]
        checked = [drafts.get(slice_.sequence_id, ())[: slice_.drafts] for slice_ in ends]
        # Filled in a thread while the model runs.
        masks = self._structuring.begin_masks(answers, checked)
        unscored = self._score_prompts(step, lane_slices)
        logits_RV = self._runner.run(unscored)
        self._counts.note_step(step)
        if self._speculator is not None:
            self._speculator.note_hidden(self._runner.hidden_TH, unscored, answers=self._running)
        self._note_computed(step)
        if ends:
            masks.wait()
            chosen = verify(logits_RV, [answer.sampler for answer in answers], checked, masks)
            for answer, tokens, guesses in zip(answers, chosen, checked, strict=True):
                self._note_accepted(answer, guesses, num_accepted=len(tokens) - 1)
                events.append(advance(answer, tokens))
                self._settle(answer, events[-1])
        if self._speculator is not None:
            self._speculator.finish_step(step.num_decoded)
        self._pacing.note(lane_slices, self._clock() - began)
        return events

    def statistics(self) -> EngineStatistics:
        """Counters as of now."""
        has_any = self.adapters is not None
        used = adapter_use(self._answers, self._running) if has_any else AdapterUse()
        return self._counts.statistics(
            len(self._running), self._reception, self._residency, self._sight, used
        )

    def _plan(self, drafts: Mapping[SequenceId, Sequence[int]]) -> Step:
        """Plan the next step; who is admitted is still in the line afterwards."""
        line = self._reception.line
        has_seat = len(self._running) < self.limits.max_num_seqs
        if line and has_seat:
            self._residency.bring_back(next(iter(line)))
        most_urgent = line.most_urgent
        running: list[Demand] = []
        for answer in sorted(self._running.values(), key=_precedence):
            is_outranked = most_urgent is not None and answer.priority > most_urgent
            has_seat |= is_outranked
            num_drafts = len(drafts.get(answer.sequence_id, ()))
            running.append(
                self._residency.running_demand(answer, num_drafts, is_outranked=is_outranked)
            )
        return plan_step(
            running,
            # Made only as far as they are looked at; a queue of thousands costs nothing.
            self._residency.waiting_demands(self._ready(line)) if has_seat else (),
            free_blocks=self._residency.num_free_blocks,
            token_budget=self._pacing.token_budget(running),
            max_running=self.limits.max_num_seqs,
        )

    def _ready(self, line: Iterable[Answer]) -> Iterable[Answer]:
        """Those who wait for no image."""
        return self._sight.seatable(line, self._residency.num_found)

    def _join(self, answers: Sequence[Answer]) -> None:
        """Let new answers wait for their turn."""
        for answer in answers:
            begin_seconds = self._pacing.begin_seconds(len(answer.token_ids))
            self._reception.join(answer, now=self._clock(), begin_seconds=begin_seconds)

    def _give_up(self, refusals: Sequence[Refusal]) -> None:
        """End requests without an answer; `take_refusals` tells why."""
        for refusal in refusals:
            answers = self._answers.pop(refusal.request_id, ())
            for answer in answers:
                self._finish(answer)
            if answers:
                self._refusals.append(refusal)

    def _take_structured(self) -> list[TokenEvent]:
        """Let those wait for their turn whose structure is compiled; end those it is wrong for."""
        is_idle = not (self._running or self._reception.line or self._pending_events)
        events = []
        for compiled in self._structuring.take_ready(is_idle=is_idle):
            if compiled.problem is None:
                self._join(compiled.answers)
                continue
            for answer in compiled.answers:
                problem = compiled.problem
                events.append(event_of(answer, text="", finish_reason="error", stop_reason=problem))
                self._settle(answer, events[-1])
        return events

    def close(self) -> None:
        """End the engine's threads; keep cached prompts where that was asked for."""
        self._structuring.close()
        self._sight.close()
        self._residency.close()

    def _drafts(self) -> Mapping[SequenceId, Sequence[int]]:
        """Guesses at the next tokens of sequences that are decoding."""
        if self._speculator is None or not self._running:
            return {}
        return self._speculator.drafts(self._running.values())

    def _note_accepted(self, answer: Answer, guesses: Sequence[int], *, num_accepted: int) -> None:
        if self._speculator is not None and guesses:
            self._counts.drafted += len(guesses)
            self._counts.accepted += num_accepted
            self._speculator.note(answer, num_drafted=len(guesses), num_accepted=num_accepted)

    def _carry_out(self, step: Step, drafts: Mapping[SequenceId, Sequence[int]]) -> list[LaneSlice]:
        """Move sequences and blocks as planned; returns the slices by lane."""
        self._preempt(step.preempted)
        for sequence_id in step.admitted:
            answer = self._reception.line.remove(sequence_id)
            self._residency.enter(answer)
            self._sight.enter(answer)
            self._running[sequence_id] = answer
        lane_slices = []
        for slice_ in step.slices:
            answer = self._running[slice_.sequence_id]
            assert answer.lane is not None
            if slice_.new_blocks:
                self._residency.grow(answer, slice_.new_blocks)
            num_tokens, num_logits = slice_.num_tokens, int(slice_.reaches_end)
            if slice_.drafts:
                guesses = drafts[slice_.sequence_id][: slice_.drafts]
                self._residency.append_tokens(answer, len(answer.token_ids), guesses)
                num_tokens += slice_.drafts
                num_logits += slice_.drafts
            lane_slices.append(LaneSlice(answer.lane, answer.num_computed, num_tokens, num_logits))
        return lane_slices

    def _score_prompts(self, step: Step, lane_slices: list[LaneSlice]) -> list[LaneSlice]:
        """Compute apart the slices whose prompts want scores; returns what is left of the step."""
        left = []
        for slice_, lane_slice in zip(step.slices, lane_slices, strict=True):
            scores = self._running[slice_.sequence_id].prompt_scores
            if scores is None or scores.is_complete:
                left.append(lane_slice)
            elif (rest := score_slice(self._runner, scores, lane_slice)) is not None:
                left.append(rest)
        return left

    def _preempt(self, sequence_ids: Sequence[SequenceId]) -> None:
        for sequence_id in sequence_ids:
            answer = self._running.pop(sequence_id)
            self._sight.leave(answer)
            self._residency.leave(answer)
            if self._speculator is not None:
                self._speculator.stand_back(sequence_id)
            answer.stand_back()
            self._reception.line.stand_back(answer)
            self._counts.preemptions += 1

    def _note_computed(self, step: Step) -> None:
        """Count the known tokens that the model has computed."""
        for slice_ in step.slices:
            answer = self._running[slice_.sequence_id]
            if answer.num_generated == 0 or not slice_.reaches_end or slice_.num_tokens > 1:
                self._counts.prefilled += slice_.num_tokens
                self._reception.charge(answer, num_prompt=slice_.num_tokens)
            answer.num_computed += slice_.num_tokens
            self._residency.note_computed(answer)
            self._sight.note_computed(answer)

    def _settle(self, answer: Answer, event: TokenEvent) -> None:
        self._counts.generated += len(event.token_ids)
        if event.token_ids:
            self._reception.charge(answer, num_written=len(event.token_ids))
            self._residency.note_chosen(answer, event.token_ids)
        if event.finish_reason is not None:
            self._finish(answer)
            unfinished = self._answers[answer.request.request_id]
            unfinished.remove(answer)
            if not unfinished:
                del self._answers[answer.request.request_id]

    def _finish(self, answer: Answer) -> None:
        if self._speculator is not None:
            self._speculator.forget(answer.sequence_id)
        self._running.pop(answer.sequence_id, None)
        self._reception.leave(answer)
        self._sight.forget(answer)
        self._residency.leave(answer)
        answer.finish()


def _precedence(answer: Answer) -> tuple[int, SequenceId]:
    """The most urgent first, of equals the oldest."""
    return answer.priority, answer.sequence_id
