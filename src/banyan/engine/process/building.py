"""From `EngineSettings` to what the engine process serves: a decoder, an encoder or a fake.

Owns the choice between them. Called once by `process`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from banyan.engine.adapters.library import AdapterLibrary, load_named
from banyan.engine.cache.key_value_blocks import BLOCK_SIZE, blocks_for
from banyan.engine.engine import Engine
from banyan.engine.events import EngineStatistics, TokenEvent
from banyan.engine.fake import fake_engine
from banyan.engine.options import DEFAULT_TOKEN_BUDGET, EngineOptions
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.pooling.queue import NoPooling, PooledRows, PoolingQueue
from banyan.engine.process.adapter_desk import facts_of, restore
from banyan.engine.process.messages import FAKE_MODEL, EngineSettings
from banyan.engine.process.status import ModelFacts
from banyan.engine.request_context import ORDINARY, RequestContext
from banyan.engine.requests.reception import Refusal
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speech.silence import NoSpeech
from banyan.engine.speech.transcript import Transcript, TranscriptionOptions
from banyan.foundation.errors import RequestError
from banyan.foundation.settings import Settings
from banyan.models.vision.media import Media

if TYPE_CHECKING:
    from banyan.compiler.report import CompileReport
    from banyan.engine.starting.worker_processes import WaitingWorkers

_FAKE_MODEL_LENGTH = 2048

# Called while the model loads with a stage, how much of it is done and how much there is.
SayProgress = Callable[[str, int, int], None]


class TokenEngine(Protocol):
    """What the process needs of an engine; `engine.Engine` is one."""

    def add_request(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        options: SamplingOptions,
        context: RequestContext = ORDINARY,
        told: Sequence[Sequence[int] | None] = (),
        media: Sequence[Media] = (),
    ) -> None:
        """Queue a request; raises `BanyanError` when it cannot be served."""
        ...

    def cancel(self, request_id: str) -> None:
        """Forget a request; unknown ids are ignored."""
        ...

    def step(self) -> list[TokenEvent]:
        """Compute one step; nothing when idle."""
        ...

    def take_refusals(self) -> list[Refusal]:
        """Return, once, the requests that were given up since the last call."""
        ...

    def has_work(self) -> bool:
        """Say whether a step would do anything."""
        ...

    def statistics(self) -> EngineStatistics:
        """Return the counters."""
        ...


class PromptPool(Protocol):
    """What the process needs to make rows of numbers; `pooling.queue.PoolingQueue` is one."""

    def add_request(self, request_id: str, prompts: Sequence[PoolingPrompt]) -> None:
        """Queue a request; raises `BanyanError` when it cannot be served."""
        ...

    def cancel(self, request_id: str) -> None:
        """Forget a request; unknown ids are ignored."""
        ...

    def has_work(self) -> bool:
        """Say whether a step would do anything."""
        ...

    def take_refusals(self) -> list[Refusal]:
        """Return, once, the requests that could not be computed."""
        ...

    def step(self) -> list[PooledRows]:
        """Compute one step; nothing when idle."""
        ...


class SpeechQueue(Protocol):
    """What the process needs to write down speech; `speech.queue.TranscriptionQueue` is one."""

    def add_request(self, request_id: str, sound: bytes, options: TranscriptionOptions) -> None:
        """Queue a request; raises `BanyanError` when it cannot be served."""
        ...

    def cancel(self, request_id: str) -> None:
        """Forget a request; unknown ids are ignored."""
        ...

    def has_work(self) -> bool:
        """Say whether a step would do anything."""
        ...

    def take_refusals(self) -> list[Refusal]:
        """Return, once, the requests that could not be computed."""
        ...

    def step(self) -> list[tuple[str, Transcript]]:
        """Compute one step; nothing when idle."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """What one engine process serves."""

    engine: TokenEngine
    pooling: PromptPool
    model: ModelFacts
    close: Callable[[], None]
    adapters: AdapterLibrary | None = None
    speech: SpeechQueue = field(default_factory=NoSpeech)
    busy_seconds: Callable[[], Mapping[str, float]] = dict


def build(
    settings: EngineSettings, say: SayProgress, waiting: "WaitingWorkers | None" = None
) -> Served:
    """Load the model of `settings`; raises `BanyanError` when it cannot be served.

    `waiting` has worker processes that were started ahead of time.
    """
    if settings.model == FAKE_MODEL:
        return _build_fake(settings)
    return _build_real(settings, say, waiting)


class WriterOfNothing:
    """The engine of a model that only embeds: it refuses to generate."""

    def add_request(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        options: SamplingOptions,
        context: RequestContext = ORDINARY,
        told: Sequence[Sequence[int] | None] = (),
        media: Sequence[Media] = (),
    ) -> None:
        """Refuse."""
        raise RequestError("this model answers no prompts with text", parameter="model")

    def cancel(self, request_id: str) -> None:
        """Do nothing: there are no requests."""

    def step(self) -> list[TokenEvent]:
        """Do nothing."""
        return []

    def take_refusals(self) -> list[Refusal]:
        """Do nothing: all are refused at once."""
        return []

    def has_work(self) -> bool:
        """Return false."""
        return False

    def statistics(self) -> EngineStatistics:
        """Return zeros."""
        return EngineStatistics()


def _build_fake(settings: EngineSettings) -> Served:
    options = settings.options
    max_model_len = options.max_model_len or _FAKE_MODEL_LENGTH
    engine = fake_engine(
        max_model_len=max_model_len,
        max_num_seqs=options.max_num_seqs,
        token_budget=max(options.max_num_seqs, DEFAULT_TOKEN_BUDGET),
        num_blocks=options.num_blocks or blocks_for(max_model_len) * options.max_num_seqs,
        seed=options.seed,
        enable_prefix_caching=options.enable_prefix_caching,
        policy=options.queue_policy(),
        num_slots=options.max_loras if options.has_adapters else 0,
        max_adapters=options.max_cpu_loras,
    )
    if engine.adapters is not None:
        load_named(engine.adapters, options.lora_modules)
    facts = ModelFacts("decoder", max_model_len, cache=_cache_facts(options))
    return _with_adapters(Served(engine, no_vectors(), facts, lambda: None), engine, settings)


def _with_adapters(served: Served, engine: Engine, settings: EngineSettings) -> Served:
    """What is served, with the adapters that an engine before this one had."""
    library = engine.adapters
    if library is None:
        return served
    restore(library, settings.adapters)
    facts = replace(
        served.model, adapters=facts_of(library), max_adapters=settings.options.max_loras
    )
    return replace(served, adapters=library, model=facts)


def _cache_facts(options: EngineOptions) -> dict[str, str]:
    return {
        "block_size": str(BLOCK_SIZE),
        "cache_dtype": options.kv_cache_dtype,
        "enable_prefix_caching": str(options.enable_prefix_caching),
        "swap_space": f"{options.swap_space_gb:g}",
    }


def no_vectors() -> NoPooling:
    """Give the pooling of a model that writes: none."""
    return NoPooling("this model writes text and makes no embeddings")


def _build_real(
    settings: EngineSettings, say: SayProgress, waiting: "WaitingWorkers | None"
) -> Served:
    # The fake model must start where nothing can be compiled, and quickly.
    from banyan.models.loading import open_model  # noqa: PLC0415
    from banyan.models.speech.configuration import is_speech_model  # noqa: PLC0415

    machine = settings.of_machine()
    started = time.perf_counter()
    if is_speech_model(Path(settings.model)):
        return _build_speech(settings, machine, say, started)
    options = settings.options
    task = open_model(settings.model, offline=settings.offline, task=options.task).task
    if task == "generate":
        return _build_decoder(settings, machine, say, started, waiting)
    return _build_pooler(settings, machine, say, started)


def _build_decoder(
    settings: EngineSettings,
    machine: Settings,
    say: SayProgress,
    started: float,
    waiting: "WaitingWorkers | None",
) -> Served:
    from banyan.engine.stages.staged_program import StagedProgram  # noqa: PLC0415
    from banyan.engine.starting.loading import load_model  # noqa: PLC0415

    decoder = load_model(
        settings.model, settings.options, settings=machine, progress=say, waiting=waiting
    )
    facts = ModelFacts(
        "decoder",
        decoder.engine.limits.max_model_len,
        _report(decoder.device.name, decoder.executable.report, started),
        cache=_cache_facts(settings.options),
    )
    program = decoder.executable
    served = Served(
        decoder.engine,
        no_vectors(),
        facts,
        decoder.close,
        busy_seconds=(lambda: program.busy_seconds) if isinstance(program, StagedProgram) else dict,
    )
    return _with_adapters(served, decoder.engine, settings)


def _build_pooler(
    settings: EngineSettings, machine: Settings, say: SayProgress, started: float
) -> Served:
    from banyan.engine.pooling.loading import load_pooler  # noqa: PLC0415

    pooler = load_pooler(settings.model, settings.options, settings=machine, progress=say)
    facts = ModelFacts(
        "embedder" if pooler.directory.task == "embed" else "classifier",
        pooler.runner.max_tokens,
        _report(pooler.device.name, pooler.executable.report, started),
    )
    queue = PoolingQueue(pooler.runner, policy=settings.options.queue_policy())
    return Served(WriterOfNothing(), queue, facts, pooler.close)


def _build_speech(
    settings: EngineSettings, machine: Settings, say: SayProgress, started: float
) -> Served:
    from banyan.engine.speech.loading import load_speech  # noqa: PLC0415

    speech = load_speech(Path(settings.model), settings.options, settings=machine, progress=say)
    facts = ModelFacts(
        "transcriber",
        speech.directory.configuration.max_tokens,
        _report(speech.device.name, speech.executable.report, started),
    )
    pooling = NoPooling("this model writes down speech and makes no embeddings")
    return Served(WriterOfNothing(), pooling, facts, speech.close, speech=speech.queue)


def _report(device: str, compiled: "CompileReport", started: float) -> dict[str, Any]:
    """Describe the start as plain values that can leave the process."""
    return {
        "device": device,
        "load_seconds": round(time.perf_counter() - started, 3),
        "compiled": {**compiled.as_dict(), "coverage": compiled.coverage},
        "summary": [list(row) for row in compiled.rows()],
    }
