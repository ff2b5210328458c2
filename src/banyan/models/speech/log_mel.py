"""From samples to what Whisper hears: logarithms of the energy in bands of the mel scale.

As in Radford et al. 2022, section 2.2, and in transformers' feature extractor: windows of 400
samples at 16 kHz every 160, filters of Slaney's mel scale, values clamped to 80 dB under the
loudest.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

SAMPLES_PER_SECOND = 16_000
SAMPLES_PER_FRAME = 160
_WINDOW = 400

# Slaney's scale: linear below 1000 Hz, then logarithmic with 27 steps for a factor of 6.4.
_LINEAR_HERTZ_PER_MEL = 200.0 / 3.0
_FIRST_LOG_HERTZ = 1000.0
_FIRST_LOG_MEL = _FIRST_LOG_HERTZ / _LINEAR_HERTZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0

Floats = NDArray[np.float32]


def log_mel(samples: Floats, *, num_bins: int, num_frames: int) -> Floats:
    """Give the features [num_bins, num_frames] of samples at 16 kHz, padded by silence or cut."""
    wanted = num_frames * SAMPLES_PER_FRAME
    window = np.zeros(wanted, dtype=np.float64)
    window[: min(len(samples), wanted)] = samples[:wanted]
    power_BF = _power_spectrum(window, num_frames)
    mel_MF = mel_filters(num_bins) @ power_BF
    logs_MF = np.log10(np.maximum(mel_MF, 1e-10))
    logs_MF = np.maximum(logs_MF, logs_MF.max() - 8.0)
    features_MF: Floats = ((logs_MF + 4.0) / 4.0).astype(np.float32)
    return features_MF


def _power_spectrum(samples: NDArray[np.float64], num_frames: int) -> NDArray[np.float64]:
    """Squared magnitudes [201, num_frames], the signal mirrored at both ends."""
    padded = np.pad(samples, _WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::SAMPLES_PER_FRAME]
    # A periodic Hann window: that of 401 samples without its last.
    hann = np.hanning(_WINDOW + 1)[:-1]
    spectrum_FB = np.fft.rfft(frames[:num_frames] * hann, axis=1)
    power_FB: NDArray[np.float64] = np.abs(spectrum_FB) ** 2
    return power_FB.T


@cache
def mel_filters(num_bins: int) -> NDArray[np.float64]:
    """Triangles [num_bins, 201] of equal energy over the frequencies from 0 to 8000 Hz."""
    half = SAMPLES_PER_SECOND / 2
    frequencies = np.linspace(0.0, half, _WINDOW // 2 + 1)
    corners = _mel_to_hertz(np.linspace(0.0, float(_hertz_to_mel(half)), num_bins + 2))
    widths = np.diff(corners)
    rising = (frequencies - corners[:-2, None]) / widths[:-1, None]
    falling = (corners[2:, None] - frequencies) / widths[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters: NDArray[np.float64] = triangles * (2.0 / (corners[2:] - corners[:-2]))[:, None]
    return filters


def _hertz_to_mel(hertz: float) -> float:
    if hertz < _FIRST_LOG_HERTZ:
        return hertz / _LINEAR_HERTZ_PER_MEL
    return float(_FIRST_LOG_MEL + np.log(hertz / _FIRST_LOG_HERTZ) / _LOG_STEP)


def _mel_to_hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = mels * _LINEAR_HERTZ_PER_MEL
    curved = _FIRST_LOG_HERTZ * np.exp(_LOG_STEP * (mels - _FIRST_LOG_MEL))
    return np.where(mels < _FIRST_LOG_MEL, linear, curved)
