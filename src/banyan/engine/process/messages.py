"""What the API process and the engine process say to each other.

Owns the message types and their encoding (MessagePack over a ZeroMQ pair). The first command is
`Start`, unless the process stands by for a while (`Prepare`); the engine answers with `Loading` any
number of times, then `Ready` or `Failed`.
Called by `process` and `client` only.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec

from banyan.engine.events import EngineStatistics, TokenEvent
from banyan.engine.options import EngineOptions
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.process.status import AdapterFacts, ModelFacts
from banyan.engine.request_context import ORDINARY, RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speech.transcript import Transcript, TranscriptionOptions
from banyan.foundation.errors import (
    BanyanError,
    DeadlineMissed,
    EngineStopped,
    InputError,
    Overloaded,
    RequestError,
    UnknownAdapter,
)
from banyan.foundation.settings import Settings
from banyan.models.vision.media import Media

FAKE_MODEL = "fake"


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an engine process is built from.

    Attributes:
        model: a model directory on this machine, or "fake" for a scripted model without weights.
        options: device, dtype and limits.
        cache_directory: where compiled programs are kept.
        compiler_command: the C++ compiler to use instead of the first one found.
        offline: never ask a model hub.
        packed_cache_bytes: how much packed weights may take on disk; 0 keeps none.
        adapters: (name, path) of those that an engine before this one had; what cannot be loaded
            any more is left out, with a warning.
        heartbeat_seconds: an idle engine says this often that it is alive.
    """

    model: str
    options: EngineOptions
    cache_directory: str
    compiler_command: str | None = None
    offline: bool = False
    packed_cache_bytes: int = 0
    adapters: tuple[tuple[str, str], ...] = ()
    heartbeat_seconds: float = 1.0

    def of_machine(self) -> Settings:
        """What of these concerns the machine and not the model."""
        return Settings(
            cache_directory=Path(self.cache_directory),
            compiler_command=self.compiler_command,
            offline=self.offline,
            packed_cache_bytes=self.packed_cache_bytes,
        )


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """Be ready to load this; may come before `Start`, any number of times."""

    settings: EngineSettings


class Start(msgspec.Struct, frozen=True, tag=True):
    """Load the model; sent once, and before all commands but `Prepare`."""

    settings: EngineSettings


class AddRequest(msgspec.Struct, frozen=True, tag=True):
    """Generate `options.n` answers to a prompt.

    Attributes:
        told: for a request that another process began, the tokens of each answer that its reader
            has, None for an answer that is whole; empty for a new request.
        media: the images of the prompt, in order of their places.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    options: SamplingOptions
    context: RequestContext = ORDINARY
    told: tuple[tuple[int, ...] | None, ...] = ()
    media: tuple[Media, ...] = ()


class CancelRequest(msgspec.Struct, frozen=True, tag=True):
    """Stop a request and free its blocks; unknown ids are ignored (it may just have ended)."""

    request_id: str


class Pool(msgspec.Struct, frozen=True, tag=True):
    """Make one row of numbers per prompt: a vector, or a score for each label."""

    request_id: str
    prompts: tuple[PoolingPrompt, ...]


class LoadAdapter(msgspec.Struct, frozen=True, tag=True):
    """Let requests name the adapter at `path`; `replaces` one of this name, if there is one."""

    request_id: str
    name: str
    path: str
    replaces: bool = False


class UnloadAdapter(msgspec.Struct, frozen=True, tag=True):
    """Drop the name of an adapter; requests that have it keep it."""

    request_id: str
    name: str


class Transcribe(msgspec.Struct, frozen=True, tag=True):
    """Write down what is said in the bytes of a file."""

    request_id: str
    sound: bytes
    options: TranscriptionOptions


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End the process."""


class Loading(msgspec.Struct, frozen=True, tag=True):
    """Progress of the start: what is being done, and how much of it."""

    step: str
    num_done: int = 0
    num_total: int = 0


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The engine takes requests from now on."""

    model: ModelFacts


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The engine is about to end.

    Attributes:
        message: one sentence saying why.
        is_input: true when the caller's choice of model or options is at fault.
        place: the device of a plan at fault; empty where none is, or nobody knows which.
        is_silent: nothing was heard of that device any more, rather than that it ended.
    """

    message: str
    is_input: bool
    place: str = ""
    is_silent: bool = False


class Published(msgspec.Struct, frozen=True, tag=True):
    """Results of one step, or a sign of life when there are none.

    Attributes:
        events: new tokens.
        statistics: counters.
        busy_seconds: device of the plan -> how long it has computed; empty without a plan.
    """

    events: tuple[TokenEvent, ...]
    statistics: EngineStatistics
    busy_seconds: Mapping[str, float] = {}


class Pooled(msgspec.Struct, frozen=True, tag=True):
    """Rows of one `Pool`, each as little-endian float32 bytes."""

    request_id: str
    rows: tuple[bytes, ...]


class Done(msgspec.Struct, frozen=True, tag=True):
    """A command about adapters was carried out; these are loaded now."""

    request_id: str
    adapters: tuple[AdapterFacts, ...]


class Transcribed(msgspec.Struct, frozen=True, tag=True):
    """What one `Transcribe` heard."""

    request_id: str
    transcript: Transcript


class Refused(msgspec.Struct, frozen=True, tag=True):
    """A request that will not be served.

    Attributes:
        message: one sentence saying why.
        parameter: the field at fault, when one is.
        is_input: false when the engine itself is at fault.
        retry_after_seconds: when it is worth asking again, for a request that came at a bad time.
        is_callers_share: this caller holds more of the queue than others.
        is_late: the deadline of the request passed before its answer began.
        is_unknown: it names an adapter that is not loaded.
    """

    request_id: str
    message: str
    parameter: str | None
    is_input: bool
    retry_after_seconds: float | None = None
    is_callers_share: bool = False
    is_late: bool = False
    is_unknown: bool = False


def refused(request_id: str, error: Exception) -> Refused:
    """Put into a message why a request is not served; `error_of` takes it out again."""
    if isinstance(error, InputError):
        parameter = error.parameter if isinstance(error, RequestError) else None
        is_unknown = isinstance(error, UnknownAdapter)
        return Refused(request_id, str(error), parameter, is_input=True, is_unknown=is_unknown)
    if isinstance(error, Overloaded):
        return Refused(
            request_id,
            str(error),
            None,
            is_input=False,
            retry_after_seconds=error.retry_after_seconds,
            is_callers_share=error.is_callers_share,
        )
    if isinstance(error, DeadlineMissed):
        return Refused(request_id, str(error), None, is_input=False, is_late=True)
    message = f"the engine failed on this request ({type(error).__name__}: {error})"
    return Refused(request_id, message, None, is_input=False)


def error_of(report: Refused) -> BanyanError:
    """The error that a refused request ends with."""
    if report.is_input:
        kind = UnknownAdapter if report.is_unknown else RequestError
        return kind(report.message, parameter=report.parameter)
    if report.retry_after_seconds is not None:
        return Overloaded(
            report.message,
            retry_after_seconds=report.retry_after_seconds,
            is_callers_share=report.is_callers_share,
        )
    if report.is_late:
        return DeadlineMissed(report.message)
    return EngineStopped(report.message)


Command: TypeAlias = (
    Prepare
    | Start
    | AddRequest
    | CancelRequest
    | Pool
    | Transcribe
    | LoadAdapter
    | UnloadAdapter
    | Stop
)
Report: TypeAlias = Loading | Ready | Failed | Published | Pooled | Transcribed | Done | Refused

encode = msgspec.msgpack.Encoder().encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_report = msgspec.msgpack.Decoder(Report).decode
