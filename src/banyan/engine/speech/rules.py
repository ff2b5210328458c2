"""Which tokens a transcript may go on with, and how one is chosen.

The rules for times are those of Whisper (Radford et al. 2022, section 2.3, and its reference
decoder): times come in pairs, never fall, the first is near the start, and a time is taken whenever
all times together are likelier than any word. Pure; one row of logits at a time. Dims: V words.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from banyan.models.speech.configuration import SpeechTokens

Floats = NDArray[np.float32]


def allowed(
    logits_V: Floats, written: Sequence[int], tokens: SpeechTokens, *, timestamps: bool
) -> Floats:
    """Give the logits with what may not come next at minus infinity.

    `written` are the tokens of the window so far.
    """
    row_V = logits_V.astype(np.float32, copy=True)
    row_V[list(tokens.suppressed)] = -np.inf
    if not written:
        row_V[list(tokens.suppressed_first)] = -np.inf
    if timestamps:
        _allow_times(row_V, written, tokens)
    else:
        row_V[tokens.no_timestamps :] = -np.inf
    return row_V


def _allow_times(row_V: Floats, written: Sequence[int], tokens: SpeechTokens) -> None:
    first = tokens.first_time
    row_V[tokens.no_timestamps] = -np.inf
    ends_in_time = len(written) >= 1 and written[-1] >= first
    pair_is_open = ends_in_time and len(written) >= 2 and written[-2] < first
    if ends_in_time and not pair_is_open:
        row_V[first:] = -np.inf
    elif pair_is_open:
        row_V[: tokens.end] = -np.inf
    times = [token for token in written if token >= first]
    if times:
        # The end of a segment may be the start of the next; otherwise time goes on.
        row_V[first : times[-1] + (0 if pair_is_open else 1)] = -np.inf
    if not written:
        row_V[:first] = -np.inf
        if tokens.latest_start is not None:
            row_V[first + tokens.latest_start + 1 :] = -np.inf
    if _log_sum(row_V[first:]) > row_V[:first].max(initial=-np.inf):
        row_V[:first] = -np.inf


def _log_sum(values: Floats) -> float:
    peak = values.max(initial=-np.inf)
    if not np.isfinite(peak):
        return -np.inf
    return float(peak + np.log(np.exp(values - peak).sum()))


def choose(
    row_V: Floats, *, temperature: float, generator: np.random.Generator
) -> tuple[int, float]:
    """Choose a token and give its log probability among those allowed."""
    logprobs_V = row_V - _log_sum(row_V)
    if temperature == 0.0:
        token = int(row_V.argmax())
        return token, float(logprobs_V[token])
    scaled_V = (row_V - row_V.max()).astype(np.float64) / temperature
    weights_V = np.exp(scaled_V)
    token = int(generator.choice(len(weights_V), p=weights_V / weights_V.sum()))
    return token, float(logprobs_V[token])
