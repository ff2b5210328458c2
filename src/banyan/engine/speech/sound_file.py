"""From the bytes of a file to samples at 16 kHz, within limits.

WAV is read by the standard library. Other formats need the package soundfile, an optional extra;
without it they are refused by name.
"""

import io
import math
import wave
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.foundation.errors import RequestError
from banyan.models.speech.log_mel import SAMPLES_PER_SECOND

MAX_SECONDS = 2 * 3600
MAX_RATE = 384_000
MAX_CHANNELS = 8

# A filter that looks at so many samples on each side, computed for so many results at a time.
_HALF_TAPS = 32
_PIECE = 16_384

Floats = NDArray[np.float32]

_SIGNS = (
    (b"fLaC", "FLAC"),
    (b"OggS", "Ogg"),
    (b"ID3", "MP3"),
    (b"\xff\xfb", "MP3"),
    (b"\xff\xf3", "MP3"),
    (b"\xff\xf2", "MP3"),
    (b"\x1aE\xdf\xa3", "WebM"),
)


def read_sound(data: bytes) -> Floats:
    """Read a file as one channel of samples at 16 kHz, from -1 to 1.

    Raises:
        RequestError: it is no sound, a format that cannot be read here, damaged, or too long.
    """
    if not data:
        raise _refuse("file is empty; send a sound")
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        samples, rate = _read_wave(data)
    else:
        samples, rate = _read_other(data)
    if not len(samples):
        raise _refuse("file holds no samples; send a sound that lasts")
    return resampled(samples, rate)


def _read_wave(data: bytes) -> tuple[Floats, int]:
    try:
        with wave.open(io.BytesIO(data)) as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            _check_shape(file.getnframes(), rate, channels)
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise _refuse(f"file is no WAV that can be read ({error}); send PCM samples") from error
    whole = len(frames) // (width * channels) * (width * channels)
    flat = _from_pcm(frames[:whole], width)
    mono: Floats = flat.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return mono, rate


def _from_pcm(frames: bytes, width: int) -> Floats:
    """Turn little-endian integers of 1 to 4 bytes into floats; those of 1 byte have no sign."""
    if width == 1:
        return (np.frombuffer(frames, np.uint8).astype(np.float32) - 128.0) / 128.0
    if width == 3:
        bytes_N3 = np.frombuffer(frames, np.uint8).reshape(-1, 3)
        wide_N4 = np.zeros((len(bytes_N3), 4), np.uint8)
        wide_N4[:, 1:] = bytes_N3
        return wide_N4.view("<i4")[:, 0].astype(np.float32) / 2.0**31
    kind = {2: "<i2", 4: "<i4"}.get(width)
    if kind is None:
        raise _refuse(f"file has samples of {width} bytes; send 1 to 4")
    return np.frombuffer(frames, kind).astype(np.float32) / 2.0 ** (8 * width - 1)


def _read_other(data: bytes) -> tuple[Floats, int]:
    named = next((name for sign, name in _SIGNS if data.startswith(sign)), None)
    if named is None and data[4:8] == b"ftyp":
        named = "MP4"
    if named is None:
        raise _refuse("file is not a sound in a known format; send WAV")
    try:
        import soundfile  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    except ImportError:
        raise _refuse(
            f"file is {named}, which this server cannot read; send WAV, or install "
            "banyan-compute[audio] on the server"
        ) from None
    try:
        return _decode(soundfile, data)
    except (RuntimeError, OSError, ValueError) as error:
        raise _refuse(f"file is {named}, but cannot be decoded ({error}); send WAV") from error


def _decode(soundfile: Any, data: bytes) -> tuple[Floats, int]:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        _check_shape(file.frames, file.samplerate, file.channels)
        # What the header promises is a claim; no more than the limit is ever read.
        most = MAX_SECONDS * file.samplerate
        samples = file.read(most, dtype="float32", always_2d=True)
        return samples.mean(axis=1, dtype=np.float32), int(file.samplerate)


def _check_shape(num_frames: int, rate: int, channels: int) -> None:
    if not 1 <= rate <= MAX_RATE:
        raise _refuse(f"file has {rate} samples a second; at most {MAX_RATE} are read")
    if not 1 <= channels <= MAX_CHANNELS:
        raise _refuse(f"file has {channels} channels; at most {MAX_CHANNELS} are read")
    if num_frames / rate > MAX_SECONDS:
        raise _refuse(
            f"file lasts {num_frames / rate:.0f} s; at most {MAX_SECONDS} s are transcribed, so "
            "cut it into pieces"
        )


def resampled(samples: Floats, rate: int) -> Floats:
    """Give samples at 16 kHz, by a windowed sinc that cuts what the lower rate cannot hold."""
    if rate == SAMPLES_PER_SECOND:
        return samples
    step = rate / SAMPLES_PER_SECOND
    num_results = max(1, math.floor(len(samples) / step))
    # Fewer samples come out than go in: the filter is as much wider.
    width = max(1.0, step)
    reach = math.ceil(_HALF_TAPS * width)
    padded = np.pad(samples, (reach, reach + 1))
    taps = np.arange(-reach + 1, reach + 1)
    results = np.empty(num_results, dtype=np.float32)
    for start in range(0, num_results, _PIECE):
        places = np.arange(start, min(num_results, start + _PIECE)) * step
        whole = np.floor(places).astype(np.int64)
        distance = (taps[None, :] - (places - whole)[:, None]) / width
        window = np.cos(np.pi / 2 * np.clip(distance / _HALF_TAPS, -1.0, 1.0)) ** 2
        weights = np.sinc(distance) * window
        weights /= weights.sum(axis=1, keepdims=True)
        near = padded[whole[:, None] + taps[None, :] + reach]
        results[start : start + len(places)] = (near * weights).sum(axis=1)
    return results


def _refuse(sentence: str) -> RequestError:
    return RequestError(sentence, parameter="file")
