"""Lanes, windows and attempts, on a model whose answers are scripted by what it hears."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from banyan.engine.speech.queue import TranscriptionQueue
from banyan.engine.speech.runner import LaneTokens
from banyan.engine.speech.transcript import Transcript, TranscriptionOptions
from banyan.foundation.errors import Overloaded, RequestError
from banyan.models.speech.configuration import SpeechConfiguration, SpeechTokens

Floats = NDArray[np.float32]

# Letters are their own tokens; behind them what has a meaning, then times in steps of 0.02 s.
START, END, EN, ZH, WRITE, ENGLISH, BEFORE, SILENCE, PLAIN, FIRST = range(128, 138)
VOCAB_SIZE = FIRST + 51
TOKENS = SpeechTokens(
    start=START,
    end=END,
    languages={"en": EN, "zh": ZH},
    transcribe=WRITE,
    translate=ENGLISH,
    no_timestamps=PLAIN,
    previous=BEFORE,
    no_speech=SILENCE,
    suppressed=(),
    suppressed_first=(),
    latest_start=None,
)
CONFIGURATION = SpeechConfiguration(
    architecture="WhisperForConditionalGeneration",
    vocab_size=VOCAB_SIZE,
    num_mel_bins=8,
    hidden_size=8,
    encoder_layers=1,
    decoder_layers=1,
    encoder_heads=1,
    decoder_heads=1,
    encoder_inner=8,
    decoder_inner=8,
    num_frames=50,  # windows of one second
    max_tokens=40,
    scales_embedding=False,
    checkpoint_dtype=None,
)


def at(seconds: float) -> int:
    return FIRST + round(seconds / 0.02)


class Letters:
    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return bytes(token for token in token_ids if token < 128).decode()


class Scripted:
    """Says the tokens of the script whose number the first sample of a window is."""

    num_lanes = 2
    configuration = CONFIGURATION

    def __init__(self, *scripts: Sequence[int], sure: float = 20.0) -> None:
        self.scripts = scripts
        self.sure = sure
        self.silence = 0.0
        self.heard: dict[int, int] = {}
        self.windows: list[int] = []
        self.texts: dict[int, list[int]] = {}
        self.batches: list[int] = []

    def hear(self, lane: int, samples: Floats) -> None:
        self.heard[lane] = int(samples[0])
        self.windows.append(len(samples))

    def step(self, lanes: Sequence[LaneTokens]) -> list[Floats]:
        self.batches.append(len(lanes))
        return [self._rows(lane) for lane in lanes]

    def _rows(self, new: LaneTokens) -> Floats:
        text = self.texts.setdefault(new.lane, [])
        del text[new.start :]
        assert len(text) == new.start, "a token was left out"
        text += new.token_ids
        rows = np.zeros((len(new.wanted), VOCAB_SIZE), np.float32)
        if text[-1] == START:
            rows[-1, ZH] = self.sure
            return rows
        rows[0, SILENCE] = self.silence if len(new.wanted) > 1 else 0.0
        begin = max(text.index(token) for token in (WRITE, ENGLISH) if token in text) + 1
        written = [token for token in text[begin:] if token != PLAIN]
        script = self.scripts[self.heard[new.lane]]
        rows[-1, [*script, END][len(written)]] = self.sure
        return rows


def queue_of(model: Scripted) -> TranscriptionQueue:
    def read(data: bytes) -> Floats:
        return np.frombuffer(data, np.float32)

    return TranscriptionQueue(model, TOKENS, Letters(), read_sound=read)


def sound(*windows: int, last: float = 1.0) -> bytes:
    """Seconds of samples that are all the number of a script."""
    samples = np.repeat(np.array(windows, np.float32), 16_000)
    return samples[: len(samples) - round((1 - last) * 16_000)].tobytes()


def finish(queue: TranscriptionQueue) -> dict[str, Transcript]:
    found: dict[str, Transcript] = {}
    for _ in range(500):
        found |= dict(queue.step())
        if not queue.has_work():
            return found
    raise AssertionError("the queue never ends")


def plain(**changes: Any) -> TranscriptionOptions:
    return TranscriptionOptions(**{"language": "en", "temperature": 0.0, **changes})


def test_a_short_sound_is_one_plain_segment() -> None:
    model = Scripted(list(b" hello"))
    queue = queue_of(model)
    queue.add_request("a", sound(0, last=0.5), plain())
    found = finish(queue)["a"]
    assert (found.text, found.language, found.duration_seconds) == ("hello", "en", 0.5)
    assert [(one.start, one.end) for one in found.segments] == [(0.0, 0.5)]
    assert found.segments[0].average_logprob == pytest.approx(0.0, abs=1e-3)
    assert model.texts[0][:4] == [START, EN, WRITE, PLAIN]
    assert (found.num_prompt_tokens, found.num_generated_tokens) == (4, 6)


def test_sounds_share_steps_and_more_than_lanes_wait() -> None:
    model = Scripted(list(b" one"), list(b" two"), list(b" three"))
    queue = queue_of(model)
    for number in range(3):
        queue.add_request(str(number), sound(number), plain())
    found = finish(queue)
    assert [found[str(number)].text for number in range(3)] == ["one", "two", "three"]
    assert max(model.batches) == 2


def test_a_long_sound_goes_on_where_its_last_whole_segment_ended() -> None:
    model = Scripted(
        [FIRST, *b" one", at(0.4), at(0.4), *b" tw"],
        [FIRST, *b" two", at(0.6)],
    )
    queue = queue_of(model)
    # The second window begins at 0.4 s: its first samples still belong to the first script.
    samples = np.concatenate([np.zeros(6400, np.float32), np.ones(16_000, np.float32)])
    queue.add_request("a", samples.tobytes(), plain())
    found = finish(queue)["a"]
    assert [(one.text, one.start, one.end) for one in found.segments] == [
        (" one", 0.0, 0.4),
        (" two", 0.4, 1.0),
    ]
    assert found.text == "one two"
    # What was said before is told to the second window.
    assert model.texts[0][:9] == [BEFORE, *b" one", START, EN, WRITE, FIRST]


def test_an_unknown_language_is_listened_for() -> None:
    model = Scripted(list(b" ni"))
    queue = queue_of(model)
    queue.add_request("a", sound(0), plain(language=None))
    assert finish(queue)["a"].language == "zh"
    assert model.texts[0][:3] == [START, ZH, WRITE]


def test_a_prompt_and_a_translation_stand_before_the_text() -> None:
    model = Scripted(list(b" x"))
    queue = queue_of(model)
    queue.add_request("a", sound(0), plain(task="translate", prompt="Banyan"))
    finish(queue)
    assert model.texts[0][:11] == [BEFORE, *b" Banyan", START, EN, ENGLISH]


def test_what_looks_wrong_is_tried_again_warmer_unless_a_temperature_was_given() -> None:
    model = Scripted(list(b" " + b"a" * 33), sure=60.0)
    queue = queue_of(model)
    queue.add_request("a", sound(0), plain(temperature=None))
    found = finish(queue)["a"]
    assert found.segments[0].temperature == 1.0, "no attempt was better"
    queue.add_request("b", sound(0), plain())
    assert finish(queue)["b"].segments[0].temperature == 0.0


def test_a_window_in_which_nobody_speaks_gives_nothing() -> None:
    model = Scripted(list(b" ghost"), sure=0.5)
    model.silence = 12.0
    queue = queue_of(model)
    queue.add_request("a", sound(0), plain())
    found = finish(queue)["a"]
    assert (found.text, found.segments) == ("", ())


def test_a_cancelled_sound_frees_its_lane() -> None:
    model = Scripted(list(b" one"), list(b" two"))
    queue = queue_of(model)
    for number in (0, 1, 0):
        queue.add_request(f"a{number}{len(model.windows)}", sound(number), plain())
    queue.step()
    queue.cancel("a00")
    queue.cancel("nobody")
    assert finish(queue).keys() == {"a10"}


@pytest.mark.parametrize(
    ("changes", "parameter", "words"),
    [
        ({"language": "xx"}, "language", "known are en, zh"),
        ({"temperature": 1.5}, "temperature", "from 0 to 1"),
        ({"prompt": "x" * 10_001}, "prompt", "at most 10000"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    changes: dict[str, Any], parameter: str, words: str
) -> None:
    queue = queue_of(Scripted([]))
    with pytest.raises(RequestError, match=words) as caught:
        queue.add_request("a", sound(0), plain(**changes))
    assert caught.value.parameter == parameter
    assert not queue.has_work()


class Breaks(Scripted):
    """Fails whenever script 1 is heard in a lane that is stepped."""

    def step(self, lanes: Sequence[LaneTokens]) -> list[Floats]:
        if any(self.heard[lane.lane] == 1 for lane in lanes):
            raise ZeroDivisionError("script 1")
        return super().step(lanes)


def test_one_sound_that_breaks_the_model_takes_no_other_with_it() -> None:
    queue = queue_of(Breaks(list(b" hello"), list(b" never")))
    for name, script in (("a", 0), ("bad", 1), ("b", 0)):
        queue.add_request(name, sound(script, last=0.5), plain())
    assert {name: found.text for name, found in finish(queue).items()} == {
        "a": "hello",
        "b": "hello",
    }
    assert [(one.request_id, str(one.error)) for one in queue.take_refusals()] == [
        ("bad", "script 1")
    ]


def test_a_model_that_breaks_at_everything_is_given_up() -> None:
    queue = queue_of(Breaks(list(b" hello"), list(b" never")))
    for number in range(8):
        queue.add_request(str(number), sound(1, last=0.5), plain())
    with pytest.raises(ZeroDivisionError):
        finish(queue)


def test_sounds_that_find_too_much_before_them_are_told_when_to_come_back() -> None:
    def read(data: bytes) -> Floats:
        return np.frombuffer(data, np.float32)

    model = Scripted(list(b" hello"))
    for bounds in ({"max_waiting_requests": 1}, {"max_waiting_seconds": 1.5}):
        queue = TranscriptionQueue(model, TOKENS, Letters(), read_sound=read, **bounds)
        queue.add_request("a", sound(0), plain())
        with pytest.raises(Overloaded, match="the queue is full: 1 requests of 1 seconds"):
            queue.add_request("b", sound(0), plain())
        finish(queue)
        queue.add_request("b", sound(0, 0, 0), plain())
