"""Choose the next token of each sequence from its row of logits.

Rows are handled apart from each other wherever a number is drawn or summed, so a sequence gets the
tokens it would get alone, whatever else is in the batch. Dims: R rows, V words, K candidates.

The order of the steps is vLLM's: penalties and bias, temperature, min-p, top-k, top-p.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banyan.engine.events import TokenLogprob
from banyan.engine.penalties import LogitsEditor
from banyan.engine.sampling import SamplingOptions

FloatArray = NDArray[np.float32]
IdArray = NDArray[np.int64]

# The nucleus is first looked for among this many likeliest words, then among more.
_FIRST_CANDIDATES = 256


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A chosen token; `token_id` is None when the model gave no number to choose by."""

    token_id: int | None
    logprob: TokenLogprob | None = None


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
        self.editor = (
            LogitsEditor(options, prompt_token_ids, end_token_ids=end_token_ids)
            if options.changes_logits
            else None
        )
        self.generator = (
            None
            if options.is_greedy
            else np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
        )

    @property
    def is_plain(self) -> bool:
        """True when the token is the largest logit and nothing else is asked for."""
        return self.generator is None and self.editor is None and self.options.logprobs is None


def sample(logits_RV: FloatArray, samplers: Sequence[SequenceSampler]) -> list[SampledToken]:
    """Choose one token for each row."""
    if all(sampler.is_plain for sampler in samplers):
        # A NaN counts as the largest, so looking at the chosen logits finds every broken row.
        chosen_R = logits_RV.argmax(axis=1)
        broken_R = np.isnan(logits_RV[np.arange(len(samplers)), chosen_R])
        return [
            SampledToken(None if broken else token_id)
            for token_id, broken in zip(chosen_R.tolist(), broken_R.tolist(), strict=True)
        ]
    return [_sample_row(row_V, sampler) for row_V, sampler in zip(logits_RV, samplers, strict=True)]


def _sample_row(logits_V: FloatArray, sampler: SequenceSampler) -> SampledToken:
    if np.isnan(logits_V.max()):
        return SampledToken(None)
    edited_V = logits_V if sampler.editor is None else sampler.editor.edit(logits_V)
    if sampler.generator is None:
        token_id = int(edited_V.argmax())
    else:
        token_id = _draw(edited_V, sampler.options, sampler.generator)
    if sampler.editor is not None:
        sampler.editor.observe(token_id)
    num_top = sampler.options.logprobs
    return SampledToken(
        token_id, None if num_top is None else token_logprob(logits_V, token_id, num_top)
    )


def token_logprob(logits_V: FloatArray, token_id: int, num_top: int) -> TokenLogprob:
    """Log probabilities of the chosen token and of the `num_top` likeliest ones."""
    peak = logits_V.max()
    offset = float(peak) + float(np.log(np.exp(logits_V - peak).sum(dtype=np.float64)))
    top_ids = largest(logits_V, num_top)
    return TokenLogprob(
        token_id,
        float(logits_V[token_id]) - offset,
        tuple((int(top_id), float(logits_V[top_id]) - offset) for top_id in top_ids),
    )


def largest(values_V: FloatArray, count: int) -> IdArray:
    """Places of the `count` largest values, largest first, equal ones by place."""
    if count <= 0:
        return np.zeros(0, dtype=np.int64)
    if count < len(values_V):
        bound = np.partition(values_V, len(values_V) - count)[len(values_V) - count]
        places = np.flatnonzero(values_V >= bound)
    else:
        places = np.arange(len(values_V))
    order = np.argsort(-values_V[places], kind="stable")
    return places[order[:count]].astype(np.int64, copy=False)


def _draw(logits_V: FloatArray, options: SamplingOptions, generator: np.random.Generator) -> int:
    # The peak becomes 0: nothing overflows, and exp() is the probability relative to the peak.
    scaled_V = (logits_V - logits_V.max()) / np.float32(options.temperature)
    if options.top_k == 0 and options.top_p == 1.0 and options.min_p == 0.0:
        return _draw_by_weight(np.exp(scaled_V), generator)
    candidates_K, total = _candidates(scaled_V, options)
    weights_K = np.exp(scaled_V[candidates_K]).astype(np.float64)
    if options.top_p < 1.0:
        reached_K = np.cumsum(weights_K)
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
        places = np.flatnonzero(scaled_V >= np.float32(np.log(options.min_p)))
        count = min(options.top_k or len(places), len(places))
        return places[largest(scaled_V[places], count)], None
    if options.top_k > 0:
        return largest(scaled_V, options.top_k), None
    weights_V = np.exp(scaled_V)
    total = float(weights_V.sum(dtype=np.float64))
    count = _FIRST_CANDIDATES
    while True:
        candidates_K = largest(scaled_V, count)
        held = float(weights_V[candidates_K].sum(dtype=np.float64))
        if held >= options.top_p * total or count >= len(scaled_V):
            return candidates_K, total
        count *= 16


def _draw_by_weight(weights: NDArray[np.floating], generator: np.random.Generator) -> int:
    """One place, drawn in proportion to its weight, by inverting the cumulative sum."""
    reached = np.cumsum(weights, dtype=np.float64)
    point = generator.random() * reached[-1]
    return min(int(np.searchsorted(reached, point, side="right")), len(weights) - 1)
