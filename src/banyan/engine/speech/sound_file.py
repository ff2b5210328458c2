"""From the bytes of a file to samples at 16 kHz, within limits.

WAV is read by the standard library. Other formats need the package soundfile, an optional extra;
without it they are refused by name.
"""

import io
import wave
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.engine.speech.resampling import resampled
from banyan.foundation.errors import RequestError

MAX_SECONDS = 2 * 3600
MAX_RATE = 384_000
MAX_CHANNELS = 8

# Slower than any telephone; a few bytes would become hours of samples to compute.
MIN_RATE = 4000

# Frames that are turned into samples at a time: a small file may hold gigabytes of silence.
_FRAMES_AT_ONCE = 2**18

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
        samples = _read_wave(data)
    else:
        samples = _read_other(data)
    if not len(samples):
        raise _refuse("file holds no samples; send a sound that lasts")
    return samples


def _read_wave(data: bytes) -> Floats:
    try:
        with wave.open(io.BytesIO(data)) as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            _check_shape(file.getnframes(), rate, channels)

            def pieces() -> Iterator[Floats]:
                while frames := file.readframes(_FRAMES_AT_ONCE):
                    whole = len(frames) // (width * channels) * (width * channels)
                    yield _one_channel(_from_pcm(frames[:whole], width).reshape(-1, channels))

            return resampled(pieces(), rate)
    except (wave.Error, EOFError) as error:
        raise _refuse(f"file is no WAV that can be read ({error}); send PCM samples") from error


def _one_channel(samples_NC: Floats) -> Floats:
    mono_N: Floats = samples_NC.mean(axis=1, dtype=np.float32)
    return mono_N


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


def _read_other(data: bytes) -> Floats:
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


def _decode(soundfile: Any, data: bytes) -> Floats:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        _check_shape(file.frames, file.samplerate, file.channels)

        def pieces() -> Iterator[Floats]:
            # What the header promises is a claim; no more than the limit is ever read.
            left = MAX_SECONDS * file.samplerate
            while left > 0:
                frames = file.read(min(left, _FRAMES_AT_ONCE), dtype="float32", always_2d=True)
                if not len(frames):
                    return
                left -= len(frames)
                yield _one_channel(frames)

        return resampled(pieces(), int(file.samplerate))


def _check_shape(num_frames: int, rate: int, channels: int) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise _refuse(
            f"file has {rate} samples a second; those of {MIN_RATE} to {MAX_RATE} are read"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise _refuse(f"file has {channels} channels; at most {MAX_CHANNELS} are read")
    if num_frames / rate > MAX_SECONDS:
        raise _refuse(
            f"file lasts {num_frames / rate:.0f} s; at most {MAX_SECONDS} s are transcribed, so "
            "cut it into pieces"
        )


def _refuse(sentence: str) -> RequestError:
    return RequestError(sentence, parameter="file")
