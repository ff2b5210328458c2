"""What the engine tells its reader: new tokens, ends, and counters. Frozen data only."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural-log probabilities at one token, from the model's own distribution.

    Attributes:
        token_id: the token that was chosen, or that stands in the prompt.
        logprob: its log probability.
        top: the likeliest tokens with theirs, best first; as many as were asked for.
        rank: its place among all tokens, 1 for the likeliest.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    rank: int = 1


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """New output of one answer of one request.

    Attributes:
        request_id: as given to `Engine.add_request`.
        index: which of the request's `n` answers.
        token_ids: tokens since the last event.
        text: new text; complete characters only, never part of a stop string.
        logprobs: one entry per token, None when not asked for.
        finish_reason: set on the last event of this answer.
        num_prompt_tokens: length of the prompt.
        num_generated_tokens: tokens of this answer so far, this event included.
        stop_reason: the stop string or stop token id that ended it, the error's sentence, or None
            (end-of-sequence token, length).
        num_cached_tokens: tokens of the prompt that were in the cache and not computed again.
        queued_seconds: how long this answer waited for its first step.
        prompt_logprobs: on the first event of the first answer, when asked for: one entry for
            each token of the prompt but its first.
    """

    request_id: str
    index: int
    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...] | None
    finish_reason: FinishReason | None
    num_prompt_tokens: int
    num_generated_tokens: int
    stop_reason: int | str | None = None
    num_cached_tokens: int = 0
    queued_seconds: float = 0.0
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatistics:
    """Counters of an engine; numbers but the first four and `image_rows_held` only grow.

    Attributes:
        num_waiting: sequences that hold no blocks yet.
        num_running: sequences that hold blocks.
        num_free_blocks: blocks of the KV cache that nobody holds; some may remember a prompt.
        num_blocks: all blocks of the KV cache.
        tokens_generated: tokens sampled.
        tokens_prefilled: prompt tokens computed, recomputed ones included.
        preemptions: times a sequence gave its blocks back to an older one.
        num_steps: steps that ran the model.
        tokens_drafted: guesses that the model checked.
        tokens_accepted: guesses that were right.
        prefix_cache_queries: prompt tokens of the answers that began to run.
        prefix_cache_hits: how many of them were in the cache.
        blocks_saved: evicted blocks that were kept in memory or on disk.
        blocks_loaded: blocks that were brought back from there.
        requests_refused: answers turned away for want of room or time.
        deadlines_missed: answers whose deadline passed before they began.
        image_rows_held: rows of images that are kept for prompts not computed yet.
        images_asked: images of the answers that began to run.
        images_encoded: images that were turned into rows, not found in the cache.
        image_rows: how many rows that were.
        image_seconds: how long it took.
        step_sizes: steps by their number of tokens, as `step_sizes.StepSizes` counts them; empty
            for an engine that has no steps.
        step_tokens: tokens of all steps.
        adapters_running: names of the adapters of answers that hold blocks.
        adapters_waiting: names of the adapters of answers in the queue.
    """

    num_waiting: int = 0
    num_running: int = 0
    num_free_blocks: int = 0
    num_blocks: int = 0
    tokens_generated: int = 0
    tokens_prefilled: int = 0
    preemptions: int = 0
    num_steps: int = 0
    tokens_drafted: int = 0
    tokens_accepted: int = 0
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    blocks_saved: int = 0
    blocks_loaded: int = 0
    requests_refused: int = 0
    deadlines_missed: int = 0
    image_rows_held: int = 0
    images_asked: int = 0
    images_encoded: int = 0
    image_rows: int = 0
    image_seconds: float = 0.0
    step_sizes: tuple[int, ...] = ()
    step_tokens: int = 0
    adapters_running: tuple[str, ...] = ()
    adapters_waiting: tuple[str, ...] = ()
