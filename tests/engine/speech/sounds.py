"""Files of sound made in memory."""

import io
import wave

import numpy as np
from numpy.typing import NDArray


def tone(seconds: float, *, rate: int = 16_000, hertz: float = 440.0) -> NDArray[np.float32]:
    """A tone of half the largest loudness."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def wav(
    samples: NDArray[np.float32], *, rate: int = 16_000, width: int = 2, channels: int = 1
) -> bytes:
    """Write samples as PCM, the same in every channel."""
    file = io.BytesIO()
    wide = np.repeat(samples.astype(np.float64), channels)
    if width == 1:
        data = np.round(wide * 127 + 128).astype(np.uint8).tobytes()
    else:
        whole = np.round(wide * (2 ** (8 * width - 1) - 1)).astype("<i4")
        data = whole.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(data)
    return file.getvalue()
