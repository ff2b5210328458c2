"""A tiny Whisper behind a running server, asked by OpenAI's SDK."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from banyan.client import Client
from tests.end_to_end.servers import Server, running_server
from tests.engine.speech.sounds import tone, wav
from tests.models.speech_checkpoints import make_speech_checkpoint

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, program_cache: dict[str, str]
) -> Iterator[Server]:
    directory = make_speech_checkpoint(tmp_path_factory.mktemp("whisper"))
    options = ["--served-model-name", "tiny", "--threads", "2", "--max-num-seqs", "4"]
    with running_server(str(directory), options, environment=program_cache) as running:
        yield running


def test_many_sounds_at_once_are_written_down_as_each_alone(server: Server) -> None:
    sdk = server.sdk()
    sounds = [wav(tone(0.3 + 0.2 * n, hertz=200 + 90 * n, rate=16_000)) for n in range(8)]

    def write(sound: bytes) -> str:
        reply = sdk.audio.transcriptions.create(
            model="tiny", file=("a.wav", sound), language="en", temperature=0.0
        )
        return reply.text

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(write, sounds))
    assert together == [write(sound) for sound in sounds]
    assert len(set(together)) > 1, "the model does not hear"


def test_a_long_sound_has_segments_in_order(server: Server) -> None:
    sound = wav(tone(7.0, rate=8_000, hertz=330), rate=8_000)
    reply = server.sdk().audio.transcriptions.create(
        model="tiny", file=("a.wav", sound), response_format="verbose_json", temperature=0.0
    )
    assert reply.duration == pytest.approx(7.0, abs=0.01)
    assert reply.segments
    starts = [segment.start for segment in reply.segments]
    assert starts == sorted(starts)
    assert 0.0 <= starts[0] <= reply.segments[-1].end <= 7.5


def test_bad_sounds_are_refused_and_the_server_goes_on(server: Server) -> None:
    sdk = server.sdk()
    for sound, words in ((b"hello", "not a sound"), (b"fLaC" + bytes(99), "file is FLAC")):
        with pytest.raises(openai.BadRequestError, match=words):
            sdk.audio.transcriptions.create(model="tiny", file=("a.wav", sound))
    with pytest.raises(openai.BadRequestError, match="writes down speech only"):
        sdk.completions.create(model="tiny", prompt="a")
    large = httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        data={"model": "tiny"},
        files={"file": ("a.wav", bytes(26 * 2**20))},
    )
    assert large.status_code == 413
    assert Client(server.url).health().status == "ready"
    report = Client(server.url).report()["report"]
    assert report["compiled"]["externs"] == []
