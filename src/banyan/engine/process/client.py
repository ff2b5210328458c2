"""Use an engine in another process as if it were here.

Owns what is asked of an engine; which process serves is the `supervisor`'s. Called by the gateway;
one client belongs to one event loop.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from uuid import uuid4

from banyan.engine.events import EngineStatistics, TokenEvent
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.process.caller_limit import CallerLimit
from banyan.engine.process.messages import (
    AddRequest,
    EngineSettings,
    LoadAdapter,
    Loading,
    Pool,
    Transcribe,
    UnloadAdapter,
)
from banyan.engine.process.recovery import Recovery
from banyan.engine.process.resumption import Told
from banyan.engine.process.status import EngineStatus, ModelFacts
from banyan.engine.process.succession import asked_of, events_over
from banyan.engine.process.supervisor import RestartPolicy, Supervisor
from banyan.engine.request_context import ORDINARY, RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speech.transcript import Transcript, TranscriptionOptions
from banyan.models.vision.media import Media


class EngineClient:
    """The engine processes of one model; see `start`, `swap`, `drain` and `close`."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        policy: RestartPolicy | None = None,
        most_per_caller: int = 0,
        on_loading: Callable[[Loading], None] | None = None,
        recovery: Recovery | None = None,
    ) -> None:
        self._callers = CallerLimit(most_per_caller)
        self._engines = Supervisor(
            settings,
            policy=policy or RestartPolicy(),
            on_loading=on_loading,
            recovery=recovery,
        )

    async def start(self) -> ModelFacts:
        """Start the process and wait until it is ready.

        Raises:
            InputError: the model or the options cannot be used.
            EngineStopped: the process died while it loaded.
        """
        return await self._engines.start()

    async def swap(self, settings: EngineSettings, *, drain_seconds: float) -> ModelFacts:
        """Load another model beside the one that serves, then let it serve.

        New requests go to the new engine from the moment it is ready; the old one finishes what it
        has, for at most `drain_seconds`. When the new one cannot be loaded, nothing changes.

        Raises:
            InputError: the model or the options cannot be used, or a swap is going on already.
            EngineStopped: the new process died while it loaded, or nothing serves now.
        """
        return await self._engines.swap(settings, drain_seconds=drain_seconds)

    async def move(self, settings: EngineSettings, reason: str) -> ModelFacts:
        """Serve the same model in another way: end the engine, start the next in its place.

        Requests in flight go on in the next engine, and new ones wait for it.

        Args:
            settings: of the next engine.
            reason: one clause, for whoever asks for the status meanwhile.

        Raises:
            InputError: a swap or another move is going on.
            EngineStopped: nothing serves now, or the next engine did not start; the one after it
                is started by itself.
        """
        return await self._engines.move(settings, reason)

    def drain(self) -> None:
        """Take no more requests; those in flight go on."""
        self._engines.drain()

    async def drained(self, limit_seconds: float) -> bool:
        """Wait until nothing is in flight; false when that takes too long."""
        return await self._engines.drained(limit_seconds)

    async def close(self) -> None:
        """End every process; whatever is in flight fails."""
        await self._engines.close()

    def status(self) -> EngineStatus:
        """Say at once whether requests can be served."""
        return self._engines.status()

    def statistics(self) -> EngineStatistics | None:
        """Return the counters of the newest step; None before the first start."""
        return self._engines.statistics()

    @property
    def busy_seconds(self) -> Mapping[str, float]:
        """How long each device of the plan has computed for the engine that serves."""
        return self._engines.busy_seconds

    @property
    def settings(self) -> EngineSettings:
        """What the engine that serves was built from."""
        return self._engines.settings

    @property
    def process_id(self) -> int | None:
        """The engine process's number, None while there is none."""
        return self._engines.process_id

    @property
    def answering_process_id(self) -> int | None:
        """The number of the engine process that answers requests, None while none does."""
        return self._engines.answering_process_id

    async def generate(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        options: SamplingOptions,
        context: RequestContext = ORDINARY,
        media: Sequence[Media] = (),
    ) -> AsyncGenerator[TokenEvent, None]:
        """Yield the events of all `options.n` answers; closing the generator cancels them.

        `media` are the images of the prompt, in order of their places.

        When the engine dies midway the next one takes the request up behind the last token told.

        Raises:
            RequestError: the engine refuses the request.
            Overloaded: there is no room for it now.
            EngineStopped: the engine is not there, or died and could not be replaced.
        """
        told = Told(
            AddRequest(request_id, tuple(prompt_token_ids), options, context, media=tuple(media))
        )
        engine = await self._engines.available_engine()
        with self._callers.counted(context.caller):
            async with aclosing(events_over(told, engine, self._engines.next_engine)) as events:
                async for event in events:
                    yield event

    async def pool(
        self, request_id: str, prompts: Sequence[PoolingPrompt], *, caller: str = ""
    ) -> tuple[bytes, ...]:
        """Return one row per prompt as little-endian float32 bytes; raises as `generate`."""
        engine, request = await self._engines.available_engine(), Pool(request_id, tuple(prompts))
        with self._callers.counted(caller):
            return await asked_of(lambda one: one.pool(request), engine, self._engines.next_engine)

    async def load_adapter(self, name: str, path: str, *, replaces: bool = False) -> None:
        """Let requests name the adapter at `path`, a directory on the engine's machine.

        Raises:
            RequestError: it cannot be used, or the name is taken.
            EngineStopped: the engine is not there.
        """
        await self._change_adapters(LoadAdapter(uuid4().hex, name, path, replaces))

    async def unload_adapter(self, name: str) -> None:
        """Drop an adapter; raises as `load_adapter`."""
        await self._change_adapters(UnloadAdapter(uuid4().hex, name))

    async def _change_adapters(self, command: LoadAdapter | UnloadAdapter) -> None:
        engine = await self._engines.available_engine()
        adapters = await engine.change_adapters(command)
        self._engines.note_adapters(engine, adapters)

    async def transcribe(
        self, request_id: str, sound: bytes, options: TranscriptionOptions, *, caller: str = ""
    ) -> Transcript:
        """Return what is said in the bytes of a file; raises as `generate`."""
        engine, request = (
            await self._engines.available_engine(),
            Transcribe(request_id, sound, options),
        )
        with self._callers.counted(caller):
            return await asked_of(
                lambda one: one.transcribe(request), engine, self._engines.next_engine
            )
