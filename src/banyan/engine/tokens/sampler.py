"""Choose the next token of each sequence from its row of logits.

Rows are handled apart from each other wherever a number is drawn or summed, so a sequence gets the
tokens it would get alone, whatever else is in the batch. Dims: R rows, V words, K candidates.

The order of the steps is vLLM's: bias, penalties, temperature, min-p, top-k, top-p.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from banyan.engine.events import TokenLogprob
from banyan.engine.sampling import SamplingOptions
from banyan.engine.structure.constraint import TokenConstraint
from banyan.engine.structure.masks import NO_MASKS, RowMasks, TokenMask
from banyan.engine.tokens.penalties import LogitsEditor

FloatArray = NDArray[np.float32]
IdArray = NDArray[np.int64]

# The nucleus is first looked for among this many likeliest words, then among more.
_FIRST_CANDIDATES = 256

# Words whose weights are summed as one before the word itself is looked for.
_RUN = 512


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A chosen token.

    Attributes:
        token_id: None when there was nothing to choose.
        logprob: when asked for.
        completes: the answer's structure is whole with this token, and nothing may follow.
        problem: why there was nothing to choose, when it is known.
    """

    token_id: int | None
    logprob: TokenLogprob | None = None
    completes: bool = False
    problem: str | None = None


class SequenceSampler:
    """What choosing tokens for one sequence needs to remember.

    Args:
        options: the request's options.
        prompt_token_ids: for the repetition penalty.
        end_token_ids: tokens held back until `min_tokens`.
        entropy: seeds the generator; equal entropy gives equal tokens.
    """

    def __init__(
        self,
        options: SamplingOptions,
        prompt_token_ids: Iterable[int],
        *,
        end_token_ids: Iterable[int],
        entropy: Sequence[int],
    ) -> None:
        self.options = options
        # Set by the engine once the structure is compiled, before the first token.
        self.constraint: TokenConstraint | None = None
        self._prompt_token_ids = prompt_token_ids
        self._end_token_ids = end_token_ids
        self.generator = (
            None
            if options.is_greedy
            else np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
        )

    @cached_property
    def editor(self) -> LogitsEditor | None:
        """What changes the logits, if anything does.

        Made at the first token: it may know every token of the prompt, and a long queue of such
        sequences would fill the memory.
        """
        if not self.options.changes_logits:
            return None
        return LogitsEditor(self.options, self._prompt_token_ids, end_token_ids=self._end_token_ids)

    def replay(self, token_id: int) -> None:
        """Remember a token that was chosen elsewhere, with the draw that it took."""
        if self.generator is not None:
            self.generator.random()
        if self.editor is not None:
            self.editor.observe(token_id)
        if self.constraint is not None:
            self.constraint.accept(token_id)

    @property
    def is_plain(self) -> bool:
        """True when the token is the largest logit and nothing else is asked for."""
        return (
            self.generator is None
            and self.editor is None
            and self.constraint is None
            and self.options.logprobs is None
        )


def sample(
    logits_RV: FloatArray, samplers: Sequence[SequenceSampler], masks: RowMasks = NO_MASKS
) -> list[SampledToken]:
    """Choose one token for each row; rows with a mask may be changed."""
    if all(sampler.is_plain for sampler in samplers):
        # A NaN counts as the largest, so looking at the chosen logits finds every broken row.
        chosen_R = logits_RV.argmax(axis=1)
        broken_R = np.isnan(logits_RV[np.arange(len(samplers)), chosen_R])
        return [
            SampledToken(None if broken else token_id)
            for token_id, broken in zip(chosen_R.tolist(), broken_R.tolist(), strict=True)
        ]
    return [
        sample_row(row_V, sampler, masks.of(row))
        for row, (row_V, sampler) in enumerate(zip(logits_RV, samplers, strict=True))
    ]


def sample_row(
    logits_V: FloatArray, sampler: SequenceSampler, mask: TokenMask | None = None
) -> SampledToken:
    """Choose one token that the mask allows and let the sampler remember it.

    The row may be changed when there is a mask and no probabilities are asked for.
    """
    num_top = sampler.options.logprobs
    token_id = (
        _choose(logits_V, sampler) if mask is None else _choose_masked(logits_V, sampler, mask)
    )
    if token_id is None:
        constraint = sampler.constraint
        return SampledToken(None, problem=None if constraint is None else constraint.failure)
    if sampler.editor is not None:
        sampler.editor.observe(token_id)
    logprob = None if num_top is None else token_logprob(logits_V, token_id, num_top)
    if sampler.constraint is None:
        return SampledToken(token_id, logprob)
    sampler.constraint.accept(token_id)
    if sampler.constraint.failure is not None:
        return SampledToken(None, problem=sampler.constraint.failure)
    return SampledToken(token_id, logprob, completes=sampler.constraint.is_finished)


def _choose_masked(logits_V: FloatArray, sampler: SequenceSampler, mask: TokenMask) -> int | None:
    """Choose among the tokens of a mask; does the least work that gives the same token."""
    if sampler.editor is None:
        if sampler.generator is None:
            token_id = _choose(logits_V, sampler)
            if token_id is not None and mask.allows(token_id):
                return token_id
        allowed_K = mask.few_allowed()
        if allowed_K is not None:
            if not len(allowed_K):
                return None
            place = _choose(logits_V[allowed_K], sampler)
            return None if place is None else int(allowed_K[place])
    is_ours = sampler.options.logprobs is None and logits_V.flags.writeable
    allowed_V = logits_V if is_ours else logits_V.copy()
    np.copyto(allowed_V, -np.inf, where=mask.forbidden())
    return _choose(allowed_V, sampler)


def _choose(logits_V: FloatArray, sampler: SequenceSampler) -> int | None:
    edited_V = logits_V if sampler.editor is None else sampler.editor.edit(logits_V)
    if sampler.constraint is not None and edited_V is not logits_V and edited_V.max() == -np.inf:
        # Only the end was left, and `min_tokens` forbids it: the structure has the last word.
        edited_V = logits_V
    if sampler.generator is None:
        # A NaN counts as the largest, so the chosen logit tells of every broken row.
        token_id = int(edited_V.argmax())
        return token_id if np.isfinite(edited_V[token_id]) else None
    if not np.isfinite(edited_V.max()):  # not numbers, infinite, or every token is forbidden
        return None
    return _draw(edited_V, sampler.options, sampler.generator)


def token_logprob(logits_V: FloatArray, token_id: int, num_top: int) -> TokenLogprob:
    """Log probabilities of the chosen token and of the `num_top` likeliest ones."""
    peak = logits_V.max()
    relative_V = logits_V - peak
    offset = float(peak) + math.log(np.exp(relative_V, out=relative_V).sum())
    top_ids = largest(logits_V, num_top)
    return TokenLogprob(
        token_id,
        float(logits_V[token_id]) - offset,
        tuple((int(top_id), float(logits_V[top_id]) - offset) for top_id in top_ids),
        rank=int(np.count_nonzero(logits_V > logits_V[token_id])) + 1,
    )


def largest(values_V: FloatArray, count: int) -> IdArray:
    """Places of the `count` largest values, largest first, equal ones by place."""
    return _in_order(values_V, _no_smaller_than(values_V, count))[:count]


def _no_smaller_than(values_V: FloatArray, count: int) -> IdArray:
    """Places, in no order, of the `count` largest values and of those equal to the last of them."""
    num_values = len(values_V)
    if count >= num_values:
        return np.arange(num_values)
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    bound = np.partition(values_V, num_values - count)[num_values - count]
    return np.flatnonzero(values_V >= bound)


def _in_order(values_V: FloatArray, places_K: IdArray) -> IdArray:
    """Sort places by value, largest first, equal ones by place.

    Value and place go into one integer: NumPy sorts those several times as fast as it sorts
    places by float values, and no two are equal, so the order is always the same.
    """
    # Adding zero makes -0.0 into 0.0, whose bits sort as its value does.
    bits_K = (values_V[places_K] + np.float32(0)).view(np.int32).astype(np.int64)
    # Bits of a negative float grow as it falls; flipping all but the sign turns that around.
    rising_K = np.where(bits_K < 0, bits_K ^ 0x7FFFFFFF, bits_K)
    keys_K = (-rising_K << 32) | places_K
    keys_K.sort()
    return keys_K & 0xFFFFFFFF


def _draw(logits_V: FloatArray, options: SamplingOptions, generator: np.random.Generator) -> int:
    # The peak becomes 0: nothing overflows, and exp() is the probability relative to the peak.
    scaled_V = logits_V - logits_V.max()
    if options.temperature != 1.0:
        scaled_V *= np.float32(1.0 / options.temperature)
    if options.top_k == 0 and options.top_p == 1.0 and options.min_p == 0.0:
        return _draw_by_weight(np.exp(scaled_V, out=scaled_V), generator)
    candidates_K, total = _candidates(scaled_V, options)
    weights_K = np.exp(scaled_V[candidates_K])
    if options.top_p < 1.0:
        reached_K = np.cumsum(weights_K, dtype=np.float64)
        total = float(reached_K[-1]) if total is None else total
        num_kept = int(np.searchsorted(reached_K, options.top_p * total)) + 1
        weights_K = weights_K[:num_kept]
    return int(candidates_K[_draw_by_weight(weights_K, generator)])


def _candidates(scaled_V: FloatArray, options: SamplingOptions) -> tuple[IdArray, float | None]:
    """Words that min-p and top-k leave, likeliest first.

    When neither is set: enough words to hold the nucleus of top-p, and the weight of all words,
    by which that nucleus is measured.
    """
    if options.min_p > 0.0:
        places = np.flatnonzero(scaled_V >= np.float32(math.log(options.min_p)))
        return _in_order(scaled_V, places)[: options.top_k or len(places)], None
    if options.top_k > 0:
        return largest(scaled_V, options.top_k), None
    weights_V = np.exp(scaled_V)
    total = float(weights_V.sum())
    count = _FIRST_CANDIDATES
    while True:
        places = _no_smaller_than(weights_V, count)
        if float(weights_V[places].sum()) >= options.top_p * total or len(places) == len(scaled_V):
            return _in_order(scaled_V, places), total
        count *= 8


def _draw_by_weight(weights: FloatArray, generator: np.random.Generator) -> int:
    """One place, drawn in proportion to its weight, by inverting the cumulative sum.

    The sum is taken over runs of words first: only the run that is hit is summed word by word.
    """
    num_whole = len(weights) // _RUN * _RUN
    runs = weights[:num_whole].reshape(-1, _RUN).sum(axis=1)
    reached = np.cumsum(np.append(runs, weights[num_whole:].sum()), dtype=np.float64)
    point = generator.random() * reached[-1]
    run = int(np.searchsorted(reached, point, side="right"))
    start = min(run * _RUN, len(weights) - 1)
    within = np.cumsum(weights[start : start + _RUN], dtype=np.float64)
    point -= reached[run - 1] if run > 0 else 0.0
    # Rounding may leave the point a hair behind the run: its last possible word is meant.
    last = int(np.searchsorted(within, within[-1]))
    return start + min(int(np.searchsorted(within, point, side="right")), last)
