"""Replies of `POST /v1/audio/transcriptions` and `/v1/audio/translations`."""

import msgspec


class TranscriptionUsage(msgspec.Struct, frozen=True, kw_only=True):
    """How much sound was heard, in seconds, rounded up."""

    type: str = "duration"
    seconds: int


class TranscriptionReply(msgspec.Struct, frozen=True, kw_only=True):
    """The reply in the format `json`."""

    text: str
    usage: TranscriptionUsage


class TranscriptionSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the transcript."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class VerboseTranscriptionReply(msgspec.Struct, frozen=True, kw_only=True):
    """The reply in the format `verbose_json`."""

    task: str
    language: str
    duration: float
    text: str
    segments: list[TranscriptionSegment]
    usage: TranscriptionUsage
