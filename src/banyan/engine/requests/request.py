"""A request inside the engine, and the sequences (answers) it is made of.

Holds state and its legal changes; never decides anything. Owned by `engine.Engine`.
"""

import time
from dataclasses import dataclass
from enum import Enum

from banyan.engine.adapters.library import LoadedAdapter
from banyan.engine.cache.prefix_index import CachedBlock
from banyan.engine.request_context import RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.tokens.detokenizer import TextStream
from banyan.engine.tokens.prompt_scores import PromptScores
from banyan.engine.tokens.sampler import SequenceSampler
from banyan.engine.vision.prompt_sight import PromptSight


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked.

    Attributes:
        request_id: the caller's name for it.
        prompt_token_ids: never empty.
        options: as given.
        context: who asks, and how urgently.
        max_tokens: most tokens of each answer, already cut to the context.
        stop_token_ids: tokens that end an answer, the model's own end tokens not included.
        end_token_ids: the model's end-of-sequence tokens, empty when they are ignored.
        adapter: what changes the weights for it, None for the base model.
        sight: what its prompt shows, None when that is text alone.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    options: SamplingOptions
    context: RequestContext
    max_tokens: int
    stop_token_ids: frozenset[int]
    end_token_ids: frozenset[int]
    adapter: LoadedAdapter | None = None
    sight: PromptSight | None = None


class SequenceState(Enum):
    """Where a sequence stands: waiting <-> running, then finished for ever."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Sequence:
    """One answer in the making.

    Attributes:
        token_ids: prompt and answer so far.
        prompt_scores: what the first answer learns of the prompt's own tokens, when asked for.
        num_computed: tokens whose keys and values are in the sequence's blocks.
        num_cached_tokens: prompt tokens that were in the cache when it first ran; None before.
        blocks: its blocks in order of position; empty unless running.
        path: the known contents of the leading ones of `blocks`, which others may share.
        block_keys: keys of its leading whole blocks, made as they are needed.
        arrived: when it came, by the engine's clock, seconds.
        lane: its row of the sequence table while running.
    """

    def __init__(
        self,
        sequence_id: SequenceId,
        request: Request,
        *,
        index: int,
        sampler: SequenceSampler,
        text: TextStream,
    ) -> None:
        self.sequence_id = sequence_id
        self.request = request
        self.index = index
        self.sampler = sampler
        self.text = text
        self.token_ids = list(request.prompt_token_ids)
        num_top = request.options.prompt_logprobs
        self.prompt_scores = (
            None
            if num_top is None or index > 0
            else PromptScores(request.prompt_token_ids, num_top=num_top)
        )
        self.arrived = 0.0
        self.num_computed = 0
        self.num_cached_tokens: int | None = None
        self.blocks: list[int] = []
        self.path: list[CachedBlock] = []
        self.block_keys: list[bytes] = []
        self.lane: int | None = None
        self.state = SequenceState.WAITING
        self._arrived = time.perf_counter()
        self._first_started: float | None = None

    @property
    def queued_seconds(self) -> float:
        """How long it waited for its first step, or waits already."""
        until = time.perf_counter() if self._first_started is None else self._first_started
        return until - self._arrived

    @property
    def computes_all(self) -> bool:
        """True while every token of the prompt must be computed here: a cached one has no score."""
        return self.prompt_scores is not None and not self.prompt_scores.is_complete

    @property
    def priority(self) -> int:
        """How urgent it is; lower is served first."""
        return self.request.context.priority

    @property
    def adapter(self) -> LoadedAdapter | None:
        """What changes the weights for it, None for the base model."""
        return self.request.adapter

    @property
    def num_generated(self) -> int:
        """Tokens of the answer so far."""
        return len(self.token_ids) - len(self.request.prompt_token_ids)

    @property
    def is_decoding(self) -> bool:
        """True when all but the newest token are in the cache."""
        return self.num_computed > 0 and len(self.token_ids) - self.num_computed == 1

    def start(self, lane: int) -> None:
        """Waiting -> running."""
        assert self.state is SequenceState.WAITING, self.state
        self.lane = lane
        self.state = SequenceState.RUNNING
        if self._first_started is None:
            self._first_started = time.perf_counter()

    def stand_back(self) -> None:
        """Running -> waiting; what was computed is forgotten, the tokens are not."""
        assert self.state is SequenceState.RUNNING, self.state
        self._forget()
        self.state = SequenceState.WAITING

    def finish(self) -> None:
        """Waiting or running -> finished."""
        assert self.state is not SequenceState.FINISHED, self.sequence_id
        self._forget()
        self.state = SequenceState.FINISHED

    def _forget(self) -> None:
        self.num_computed = 0
        self.blocks = []
        self.path = []
        self.lane = None
