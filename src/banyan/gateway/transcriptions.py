"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`: what is said in a file of sound."""

import math
import time
from collections.abc import Mapping
from typing import Literal

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from banyan.engine.speech.transcript import Transcript, TranscriptionOptions
from banyan.gateway.body import unless_hung_up
from banyan.gateway.caller import caller_of_key
from banyan.gateway.errors import refuse
from banyan.gateway.replies.transcriptions import (
    TranscriptionReply,
    TranscriptionSegment,
    TranscriptionUsage,
    VerboseTranscriptionReply,
)
from banyan.gateway.services import Services, new_id
from banyan.gateway.subtitles import as_srt, as_vtt
from banyan.gateway.upload import Upload, read_upload

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_WITH_TIMES = ("srt", "verbose_json", "vtt")

# Fields of a form; those that say nothing here are accepted with these values only.
_FIELDS = (
    "model",
    "language",
    "prompt",
    "response_format",
    "temperature",
    "seed",
    "timestamp_granularities[]",
    "timestamp_granularities",
)
_HARMLESS: Mapping[str, tuple[str, ...]] = {
    "stream": ("false", "False", "0"),
    "chunking_strategy": ("auto",),
}

Task = Literal["transcribe", "translate"]


def transcription_routes(services: Services) -> APIRouter:
    """Build the router of this module."""
    router = APIRouter()

    @router.post("/v1/audio/transcriptions")
    async def transcribe(request: Request) -> Response:
        return await _answer(services, request, "transcribe")

    @router.post("/v1/audio/translations")
    async def translate(request: Request) -> Response:
        return await _answer(services, request, "translate")

    return router


async def _answer(services: Services, request: Request, task: Task) -> Response:
    arrived = time.perf_counter()
    upload = await read_upload(request, limit_bytes=services.settings.max_sound_bytes)
    services.adapter_of(_one(upload, "model"))
    services.ready_model("transcriber")
    _refuse_unknown(upload)
    form = _one(upload, "response_format", "json")
    if form not in FORMATS:
        raise refuse(
            f"response_format is {form!r}; it must be one of {', '.join(FORMATS)}",
            parameter="response_format",
        )
    options = TranscriptionOptions(
        task=task,
        language=_one(upload, "language", "") or None,
        prompt=_one(upload, "prompt", ""),
        temperature=_temperature(_one(upload, "temperature", "")),
        timestamps=form in _WITH_TIMES,
        seed=_seed(_one(upload, "seed", "0")),
    )
    caller = caller_of_key(request)
    work = services.backend.transcribe(new_id("transcribe"), upload.file, options, caller=caller)
    with services.metrics.whole(arrived=arrived):
        found = await unless_hung_up(request.receive, work)
    services.metrics.note_heard(found.duration_seconds)
    return _reply(found, form, task)


def _one(upload: Upload, name: str, default: str | None = None) -> str:
    values = upload.fields.get(name, ())
    if len(values) > 1:
        raise refuse(f"{name} comes {len(values)} times; send it once", parameter=name)
    if values:
        return values[0]
    if default is None:
        raise refuse(f"{name} is missing; it is required", parameter=name, code="missing_field")
    return default


def _refuse_unknown(upload: Upload) -> None:
    for name, values in upload.fields.items():
        if name in _FIELDS:
            continue
        if any(value not in _HARMLESS.get(name, ()) for value in values):
            known = name in _HARMLESS
            what = "is not served by this version" if known else "is not a field of this request"
            code = "unsupported_parameter" if known else "unknown_field"
            raise refuse(f"{name} {what}; leave it out", parameter=name, code=code)
    for name in ("timestamp_granularities[]", "timestamp_granularities"):
        if any(value != "segment" for value in upload.fields.get(name, ())):
            raise refuse(
                "timestamp_granularities other than 'segment' are not served by this version",
                parameter="timestamp_granularities",
                code="unsupported_parameter",
            )


def _temperature(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise refuse(
            f"temperature is {text!r}; it must be a number from 0 to 1", parameter="temperature"
        ) from None


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise refuse(f"seed is {text[:40]!r}; it must be a whole number", parameter="seed")
    return int(text)


def _reply(found: Transcript, form: str, task: Task) -> Response:
    if form == "text":
        return PlainTextResponse(found.text + "\n")
    if form == "srt":
        return PlainTextResponse(as_srt(found.segments), media_type="application/x-subrip")
    if form == "vtt":
        return PlainTextResponse(as_vtt(found.segments), media_type="text/vtt")
    usage = TranscriptionUsage(seconds=math.ceil(found.duration_seconds))
    body: msgspec.Struct = TranscriptionReply(text=found.text, usage=usage)
    if form == "verbose_json":
        body = VerboseTranscriptionReply(
            task=task,
            language=found.language,
            duration=round(found.duration_seconds, 2),
            text=found.text,
            segments=_segments(found),
            usage=usage,
        )
    return Response(msgspec.json.encode(body), media_type="application/json")


def _segments(found: Transcript) -> list[TranscriptionSegment]:
    return [
        TranscriptionSegment(
            id=number,
            seek=one.seek,
            start=one.start,
            end=one.end,
            text=one.text,
            tokens=list(one.token_ids),
            temperature=one.temperature,
            avg_logprob=one.average_logprob,
            compression_ratio=one.compression_ratio,
            no_speech_prob=one.no_speech_probability,
        )
        for number, one in enumerate(found.segments)
    ]
