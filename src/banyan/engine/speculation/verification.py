"""Check guessed tokens against the model: from rows of logits to the tokens that are kept.

The model computes a sequence's newest token and its guesses in one step, so row i of the sequence
holds the logits behind its first i guesses. A token is chosen from row after row exactly as it
would be without guesses, with one random draw for each; the first that differs from its guess ends
the walk, for the rows behind it saw a token that was not taken. So the tokens are those of a run
without speculation, greedy or sampled, penalties included.

For a guess that is certain (as all ours are) this accepts with the probability of the rejection
scheme of Leviathan et al. 2023 (arXiv:2211.17192), min(1, p/q) with q = 1, and unlike it a seed
gives the same tokens with and without guesses. Dims: R rows, V words.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from banyan.engine.structure.masks import NO_MASKS, RowMasks
from banyan.engine.tokens.sampler import SampledToken, SequenceSampler, sample, sample_row

FloatArray = NDArray[np.float32]


def verify(
    logits_RV: FloatArray,
    samplers: Sequence[SequenceSampler],
    drafts: Sequence[Sequence[int]],
    masks: RowMasks = NO_MASKS,
) -> list[list[SampledToken]]:
    """Choose tokens for each sequence: one, and one more for each guess that was right.

    Args:
        logits_RV: len(drafts[s]) + 1 rows for each sequence s, one sequence after the other.
        samplers: what each sequence remembers; notes only the tokens that are returned.
        drafts: the guesses of each sequence, often none.
        masks: what the structures of answers forbid in each row.

    Returns:
        1 to len(drafts[s]) + 1 tokens for each sequence; only the last one can differ from the
        guesses, or be no token at all.
    """
    if not any(drafts):
        return [[sampled] for sampled in sample(logits_RV, samplers, masks)]
    if all(sampler.is_plain for sampler in samplers):
        return _verify_plain(logits_RV, drafts)
    kept, row = [], 0
    for sampler, guesses in zip(samplers, drafts, strict=True):
        kept.append(_walk(logits_RV, row, sampler, guesses, masks))
        row += len(guesses) + 1
    return kept


def _verify_plain(
    logits_RV: FloatArray, drafts: Sequence[Sequence[int]]
) -> list[list[SampledToken]]:
    likeliest_R = logits_RV.argmax(axis=1)
    broken = np.isnan(logits_RV[np.arange(len(likeliest_R)), likeliest_R]).tolist()
    likeliest = likeliest_R.tolist()
    kept, row = [], 0
    for guesses in drafts:
        end = row
        while end - row < len(guesses) and guesses[end - row] == likeliest[end] and not broken[end]:
            end += 1
        kept.append(
            [SampledToken(None if broken[r] else likeliest[r]) for r in range(row, end + 1)]
        )
        row += len(guesses) + 1
    return kept


def _walk(
    logits_RV: FloatArray,
    first_row: int,
    sampler: SequenceSampler,
    guesses: Sequence[int],
    masks: RowMasks,
) -> list[SampledToken]:
    kept: list[SampledToken] = []
    for row, guess in enumerate([*guesses, None], first_row):
        kept.append(sample_row(logits_RV[row], sampler, masks.of(row)))
        newest = kept[-1]
        if newest.token_id is None or newest.token_id != guess or newest.completes:
            break
    return kept
