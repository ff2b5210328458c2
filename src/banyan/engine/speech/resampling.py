"""From samples at any rate to samples at 16 kHz, piece by piece.

A windowed sinc that cuts what the lower rate cannot hold. Its weights repeat after as many results
as the two rates need to meet again, so they are computed once and applied as matrix products: hours
of sound take seconds, and no more than a piece of the source is ever held.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from banyan.models.speech.log_mel import SAMPLES_PER_SECOND

Floats = NDArray[np.float32]

# A filter that looks at so many samples on each side, more when fewer come out than go in.
_HALF_TAPS = 32
# Results of one matrix product: more columns are faster, but more of the matrix is zero.
_RESULTS_AT_ONCE = 64
# Rates that meet 16 kHz later than after so many results are taken for the nearest that does not:
# their weights would take gigabytes, and 4 in 44,100 is less than sound cards differ.
_MOST_WEIGHTS = 2000
# Most numbers that a product copies.
_NUMBERS_AT_ONCE = 2**20


def resampled(pieces: Iterable[Floats], rate: int) -> Floats:
    """Give samples at 16 kHz from consecutive pieces of one sound at `rate`."""
    if SAMPLES_PER_SECOND // math.gcd(rate, SAMPLES_PER_SECOND) > _MOST_WEIGHTS:
        step = SAMPLES_PER_SECOND // _MOST_WEIGHTS
        rate = round(rate / step) * step
    if rate == SAMPLES_PER_SECOND:
        return _joined(list(pieces))
    resampler = _Resampler(rate)
    found = []
    num_samples = 0
    for piece in pieces:
        num_samples += len(piece)
        found.append(resampler.take(piece))
    if not num_samples:
        return _joined([])
    # What is beyond the end is silence.
    found.append(resampler.take(np.zeros(resampler.longest_wait, np.float32)))
    return _joined(found)[: max(1, num_samples * SAMPLES_PER_SECOND // rate)]


def _joined(pieces: list[Floats]) -> Floats:
    return np.concatenate(pieces) if pieces else np.empty(0, np.float32)


class _Resampler:
    """Takes samples at one rate and gives those at 16 kHz as far as they can be known.

    Attributes:
        longest_wait: after so many more samples, all results of those before are given.
    """

    def __init__(self, rate: int) -> None:
        common = math.gcd(rate, SAMPLES_PER_SECOND)
        # Rates that meet soon are taken several times at once, which fills a product.
        times = math.ceil(_RESULTS_AT_ONCE * common / SAMPLES_PER_SECOND)
        self._num_inputs = rate // common * times
        self._num_outputs = SAMPLES_PER_SECOND // common * times
        self._width = max(1.0, rate / SAMPLES_PER_SECOND)
        self._reach = math.ceil(_HALF_TAPS * self._width)
        self._held: Floats = np.zeros(self._reach, np.float32)
        self.longest_wait = 2 * self._num_inputs + 2 * self._reach
        self._filters: dict[int, tuple[int, Floats]] = {}

    def take(self, samples_N: Floats) -> Floats:
        """Give the results that can be computed now; the rest of the samples is kept."""
        held = np.concatenate([self._held, samples_N])
        num_rounds = max(0, len(held) - 2 * self._reach) // self._num_inputs
        results = np.empty((num_rounds, self._num_outputs), np.float32)
        for first in range(0, self._num_outputs, _RESULTS_AT_ONCE) if num_rounds else ():
            begin, filters_SP = self._filters_from(first)
            windows = sliding_window_view(held, len(filters_SP))[begin :: self._num_inputs]
            columns = slice(first, first + filters_SP.shape[1])
            rows = max(1, _NUMBERS_AT_ONCE // len(filters_SP))
            for start in range(0, num_rounds, rows):
                stop = min(num_rounds, start + rows)
                np.matmul(windows[start:stop], filters_SP, out=results[start:stop, columns])
        # A copy, or all that was held would stay.
        self._held = held[num_rounds * self._num_inputs :].copy()
        return results.reshape(-1)

    def _filters_from(self, first: int) -> tuple[int, Floats]:
        """The weights [S, P] of P results from number `first` on, and their first sample."""
        if first not in self._filters:
            self._filters[first] = self._make_filters(first)
        return self._filters[first]

    def _make_filters(self, first: int) -> tuple[int, Floats]:
        phases_P = np.arange(first, min(self._num_outputs, first + _RESULTS_AT_ONCE))
        whole_P, part_P = np.divmod(phases_P * self._num_inputs, self._num_outputs)
        taps_T = np.arange(-self._reach + 1, self._reach + 1)
        distance_PT = (taps_T - (part_P / self._num_outputs)[:, None]) / self._width
        window_PT = np.cos(np.pi / 2 * np.clip(distance_PT / _HALF_TAPS, -1.0, 1.0)) ** 2
        weights_PT = np.sinc(distance_PT) * window_PT
        weights_PT /= weights_PT.sum(axis=1, keepdims=True)
        offsets_P = whole_P - whole_P[0]
        filters_SP = np.zeros((int(offsets_P[-1]) + len(taps_T), len(phases_P)), np.float32)
        rows_PT = offsets_P[:, None] + np.arange(len(taps_T))
        filters_SP[rows_PT, np.arange(len(phases_P))[:, None]] = weights_PT
        return int(whole_P[0]) + 1, filters_SP
