import asyncio
from typing import Any

import httpx
import pytest

from banyan.engine.process.status import EngineStatus, ModelFacts
from banyan.engine.speech.transcript import Segment, Transcript, TranscriptionOptions
from banyan.foundation.errors import RequestError
from tests.gateway.scripted import READY, ScriptedBackend, connect

TRANSCRIBER = EngineStatus("ready", "the engine is ready", ModelFacts("transcriber", 448))
HELLO = Segment(
    seek=0,
    start=0.0,
    end=1.5,
    text=" Hello",
    token_ids=(7, 8),
    temperature=0.0,
    average_logprob=-0.25,
    compression_ratio=0.5,
    no_speech_probability=0.125,
)


class Hearing(ScriptedBackend):
    def __init__(self, status: EngineStatus = TRANSCRIBER) -> None:
        super().__init__(status=status)
        self.asked: list[tuple[bytes, TranscriptionOptions]] = []

    async def transcribe(
        self, request_id: str, sound: bytes, options: TranscriptionOptions, *, caller: str = ""
    ) -> Transcript:
        self.asked.append((sound, options))
        if sound == b"no sound":
            raise RequestError("file is not a sound", parameter="file")
        return Transcript(
            text="Hello",
            language="en",
            duration_seconds=1.2,
            segments=(HELLO,),
            num_prompt_tokens=4,
            num_generated_tokens=2,
        )


def send(
    *,
    backend: Hearing | None = None,
    sound: bytes = b"sound",
    path: str = "/v1/audio/transcriptions",
    limit: int = 1000,
    **fields: Any,
) -> httpx.Response:
    async def exchange() -> httpx.Response:
        async with connect(backend or Hearing(), max_sound_bytes=limit) as client:
            data = {"model": "tiny"} | fields
            return await client.post(path, data=data, files={"file": ("a.wav", sound)})

    return asyncio.run(exchange())


def test_the_text_comes_as_json() -> None:
    reply = send().json()
    assert reply == {"text": "Hello", "usage": {"type": "duration", "seconds": 2}}


def test_every_format_has_its_own_shape() -> None:
    assert send(response_format="text").text == "Hello\n"
    assert send(response_format="srt").text == "1\n00:00:00,000 --> 00:00:01,500\nHello\n\n"
    vtt = send(response_format="vtt")
    assert vtt.text.startswith("WEBVTT\n\n00:00:00.000")
    assert vtt.headers["content-type"].startswith("text/vtt")
    verbose = send(response_format="verbose_json").json()
    assert (verbose["task"], verbose["language"], verbose["duration"]) == ("transcribe", "en", 1.2)
    assert verbose["segments"] == [
        {
            "id": 0,
            "seek": 0,
            "start": 0.0,
            "end": 1.5,
            "text": " Hello",
            "tokens": [7, 8],
            "temperature": 0.0,
            "avg_logprob": -0.25,
            "compression_ratio": 0.5,
            "no_speech_prob": 0.125,
        }
    ]


def test_the_options_reach_the_engine() -> None:
    backend = Hearing()
    send(
        backend=backend,
        path="/v1/audio/translations",
        language="zh",
        prompt="roots",
        temperature="0.5",
        seed="7",
        response_format="srt",
    )
    expected = TranscriptionOptions(
        task="translate",
        language="zh",
        prompt="roots",
        temperature=0.5,
        timestamps=True,
        seed=7,
    )
    assert backend.asked == [(b"sound", expected)]


@pytest.mark.parametrize(
    ("fields", "status", "parameter", "words"),
    [
        ({"response_format": "xml"}, 400, "response_format", "json, text, srt"),
        ({"temperature": "warm"}, 400, "temperature", "a number from 0 to 1"),
        ({"temperature": "nan"}, 400, "temperature", "a number from 0 to 1"),
        ({"seed": "-1"}, 400, "seed", "whole number"),
        ({"laguage": "en"}, 400, "laguage", "not a field"),
        ({"stream": "true"}, 400, "stream", "not served"),
        ({"language": ["en", "zh"]}, 400, "language", "comes 2 times"),
        (
            {"timestamp_granularities[]": "word"},
            400,
            "timestamp_granularities",
            "other than 'segment'",
        ),
        ({"model": "other"}, 404, "model", "is not served here"),
        ({"sound": b"no sound"}, 400, "file", "not a sound"),
        ({"sound": b"x" * 70_000}, 413, "file", "over the limit of 1000 bytes"),
    ],
)
def test_what_cannot_be_served_is_refused(
    fields: dict[str, Any], status: int, parameter: str, words: str
) -> None:
    response = send(**fields)
    assert response.status_code == status
    assert response.json()["error"]["param"] == parameter
    assert words in response.json()["error"]["message"]


def test_harmless_fields_pass() -> None:
    fields: dict[str, Any] = {"stream": "false", "timestamp_granularities[]": "segment"}
    assert send(**fields).status_code == 200


def test_a_body_that_is_no_form_or_has_no_file_is_refused() -> None:
    async def exchange() -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        async with connect(Hearing()) as client:
            path = "/v1/audio/transcriptions"
            json = await client.post(path, json={"model": "tiny"})
            bare = await client.post(path, files={"other": ("a", b"x")}, data={"model": "tiny"})
            headers = {"content-type": "multipart/form-data; boundary=x"}
            broken = await client.post(path, content=b"--y\r\nrubbish", headers=headers)
            return json, bare, broken

    json, bare, broken = asyncio.run(exchange())
    assert json.status_code == 415
    assert (bare.status_code, bare.json()["error"]["param"]) == (400, "file")
    assert broken.status_code == 400


def test_a_model_that_writes_hears_nothing() -> None:
    response = send(backend=Hearing(READY))
    assert response.status_code == 400
    assert "serve one that writes down speech" in response.json()["error"]["message"]
