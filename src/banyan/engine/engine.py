"""The engine: admits requests, plans a step, runs it, chooses tokens, publishes them.

Owns all state of serving one model; the decisions are in `scheduler`, `admission` and `sampler`.
Not thread-safe: one thread calls it. Called by `LLM` and by the engine process.
"""

import time
from collections.abc import Callable, Collection, Sequence

from banyan.engine.adapters.library import AdapterLibrary
from banyan.engine.cache.block_spill import BlockSpill
from banyan.engine.events import EngineStatistics, TokenEvent
from banyan.engine.options import EngineLimits, QueuePolicy
from banyan.engine.request_context import ORDINARY, RequestContext
from banyan.engine.requests.adapter_use import AdapterUse, adapter_use
from banyan.engine.requests.admission import admit
from banyan.engine.requests.answer_maker import AnswerMaker
from banyan.engine.requests.counts import EngineCounts
from banyan.engine.requests.publishing import event_of, replay
from banyan.engine.requests.reception import Reception, Refusal
from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.requests.residency import Residency
from banyan.engine.requests.seats import Seats
from banyan.engine.requests.sight import Sight
from banyan.engine.requests.steady_load import SteadyLoad
from banyan.engine.requests.structuring import Structuring
from banyan.engine.runner import Runner, StepModel
from banyan.engine.sampling import SamplingOptions
from banyan.engine.scheduling.pacing import Pacing
from banyan.engine.scheduling.pipeline_depth import FixedDepth, PipelineDepth
from banyan.engine.speculation.speculator import Speculator
from banyan.engine.steps import StepParts, Steps
from banyan.engine.structure.guidance import StructureCompiler
from banyan.engine.tokens.detokenizer import TextDecoder
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
        steady_load: says when answers may begin; None lets them as soon as there is room.
        depth: how many steps are under way; None: as many as the model takes.
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
        steady_load: SteadyLoad | None = None,
        depth: PipelineDepth | None = None,
    ) -> None:
        self.limits = limits
        self.vocab_size = vocab_size
        self._end_token_ids = frozenset(end_token_ids)
        self._tokenizer = tokenizer
        self._maker = AnswerMaker(tokenizer, seed)
        self._clock = clock
        self._speculator = speculator
        self._depth = depth or FixedDepth(model.num_in_flight)
        self._structuring = Structuring(
            structures, vocab_size=vocab_size, num_in_flight=self._depth.most
        )
        self.adapters = adapters
        self._residency = Residency(
            limits, shares_prefixes=enable_prefix_caching, adapters=adapters, spill=spill
        )
        policy = policy or QueuePolicy()
        self._sight = Sight(eyes, most_file_bytes=policy.most_image_bytes)
        self._seats = Seats(self._residency, self._sight)
        self._reception = Reception(policy)
        self._pacing = Pacing(policy, limits)
        if spill is not None:
            spill.compare_with(self._pacing.compute_seconds)
        self._counts = EngineCounts()
        seeing = model if eyes is None else SeeingStep(model, eyes)
        self._steady_load = steady_load
        self._steps = self._steps_of(seeing)
        # Only those that are not finished: a finished one gives back what it remembers.
        self._answers: dict[str, list[Answer]] = {}
        self._pending_events: list[TokenEvent] = []
        self._refusals: list[Refusal] = []

    def _steps_of(self, model: StepModel) -> Steps:
        parts = StepParts(
            runner=Runner(model, self._residency.table, self._sight.seen),
            residency=self._residency,
            seats=self._seats,
            reception=self._reception,
            pacing=self._pacing,
            depth=self._depth,
            sight=self._sight,
            structuring=self._structuring,
            counts=self._counts,
            speculator=self._speculator,
            steady_load=self._steady_load,
            clock=self._clock,
        )
        return Steps(parts, max_num_seqs=self.limits.max_num_seqs)

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
        """Stop a request and free its blocks; an unknown or finished one is no error.

        What a step under way writes is freed when that is over.

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
        return bool(self._seats.num_taken or self._reception.line or is_compiling or not is_said)

    def take_refusals(self) -> list[Refusal]:
        """Return, once, the requests that were given up since the last call, and why.

        Nothing more comes of them, nor does anything come that was not taken yet.
        """
        refusals, self._refusals = self._refusals, []
        return refusals

    def step(self) -> list[TokenEvent]:
        """Do one step and return what came of it, in no order between requests.

        Where the model takes several, as many as there is work for are under way afterwards.
        """
        self._give_up(self._reception.overdue(self._clock(), self._answers))
        events, self._pending_events = self._pending_events, []
        events += self._take_structured()
        found, is_idle = self._residency.num_found, not (self._seats.num_taken or events)
        self._give_up(self._sight.advance(self._reception.line, found, is_idle=is_idle))
        while self._steps.begin():
            pass
        return events + self._steps.finish(self._settle)

    def statistics(self) -> EngineStatistics:
        """Counters as of now."""
        has_any = self.adapters is not None
        used = adapter_use(self._answers, self._seats.running) if has_any else AdapterUse()
        return self._counts.statistics(
            len(self._seats.running), self._reception, self._residency, self._sight, used
        )

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
        is_idle = not (self._seats.running or self._reception.line or self._pending_events)
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
        self._steps.close()
        self._structuring.close()
        self._sight.close()
        self._residency.close()

    def _settle(self, answer: Answer, event: TokenEvent) -> None:
        self._counts.generated += len(event.token_ids)
        if event.token_ids:
            self._reception.charge(answer, num_written=len(event.token_ids))
            self._residency.note_chosen(answer, event.token_ids)
        if event.finish_reason is not None:
            if self._steady_load is not None:
                self._steady_load.note_answer(answer.num_generated)
            self._finish(answer)
            unfinished = self._answers[answer.request.request_id]
            unfinished.remove(answer)
            if not unfinished:
                del self._answers[answer.request.request_id]

    def _finish(self, answer: Answer) -> None:
        if self._speculator is not None:
            self._speculator.forget(answer.sequence_id)
        self._reception.leave(answer)
        self._seats.leave(answer)
