import time
import tracemalloc

import numpy as np
import pytest

from banyan.engine.speech import sound_file
from banyan.engine.speech.resampling import resampled
from banyan.engine.speech.sound_file import read_sound
from banyan.foundation.errors import RequestError
from tests.engine.speech.sounds import tone, wav


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_pcm_of_every_width_is_read_as_one_channel(width: int, channels: int) -> None:
    samples = tone(0.1)
    found = read_sound(wav(samples, width=width, channels=channels))
    assert np.abs(found - samples).max() <= 2.0 ** (2 - 8 * min(width, 3))


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 44_100, 48_000, 384_000])
def test_another_rate_gives_the_same_tone_at_16_kilohertz(rate: int) -> None:
    found = read_sound(wav(tone(0.5, rate=rate), rate=rate))
    expected = tone(0.5)
    assert abs(len(found) - len(expected)) <= 2
    inner = slice(400, 7000)
    assert np.abs(found[inner] - expected[inner]).max() <= 2e-3


def test_tones_that_16_kilohertz_cannot_hold_are_cut_and_do_not_come_back_lower() -> None:
    found = resampled([tone(0.5, rate=48_000, hertz=15_000)], 48_000)
    assert np.abs(found[400:7000]).max() <= 1e-3


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
@pytest.mark.parametrize("num_pieces", [2, 7, 300])
def test_a_sound_in_pieces_is_the_sound_as_a_whole(rate: int, num_pieces: int) -> None:
    sound = tone(0.5, rate=rate)
    whole = resampled([sound], rate)
    assert len(whole) == 8000
    found = resampled(np.array_split(sound, num_pieces), rate)
    assert np.abs(found - whole).max() <= 1e-6


def test_a_small_file_of_long_silence_does_not_fill_memory_or_time() -> None:
    # The worst of a megabyte: rates that meet late, and narrow samples.
    for rate in (4001, 383_999):
        data = wav(np.zeros(2**20, np.float32), rate=rate, width=1)
        tracemalloc.start()
        begun = time.process_time()
        found = read_sound(data)
        assert time.process_time() - begun < 10
        assert tracemalloc.get_traced_memory()[1] <= 2 * found.nbytes + 64 * 2**20
        tracemalloc.stop()


def test_a_truncated_file_gives_what_is_there() -> None:
    whole = wav(tone(0.5))
    assert 0 < len(read_sound(whole[:-5001])) < 8000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "file is empty"),
        (b"hello, this is no sound", "not a sound in a known format"),
        (b"RIFF\x00\x00\x00\x00WAVE", "no WAV that can be read"),
        (wav(tone(0.0)), "holds no samples"),
        (wav(tone(0.01), rate=500_000), "500000 samples a second; those of 4000 to 384000"),
        (wav(tone(0.01), channels=9), "9 channels; at most 8"),
        # A kilobyte that would become a hundred million samples.
        (wav(np.zeros(1000, np.float32), rate=1), "1 samples a second; those of 4000 to 384000"),
    ],
)
def test_what_is_no_sound_or_too_much_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        read_sound(data)
    assert caught.value.parameter == "file"


def test_a_sound_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_file, "MAX_SECONDS", 2)
    with pytest.raises(RequestError, match="lasts 3 s; at most 2 s"):
        read_sound(wav(tone(2.6)))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"fLaC" + bytes(40), "FLAC"),
        (b"OggS" + bytes(40), "Ogg"),
        (b"ID3" + bytes(40), "MP3"),
        (b"\x00\x00\x00\x20ftypM4A " + bytes(40), "MP4"),
    ],
)
def test_other_formats_are_named(data: bytes, name: str) -> None:
    with pytest.raises(RequestError, match=f"file is {name}, "):
        read_sound(data)
