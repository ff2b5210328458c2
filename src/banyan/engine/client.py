"""Use an engine in another process as if it were here.

Owns the life of the engine process: when it dies, everything in flight fails with the reason
and a new process is started, later and later if it keeps dying. Called by the gateway; one
client belongs to one event loop.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from banyan.engine.events import EngineStatistics, TokenEvent
from banyan.engine.launcher import EngineProcess, launch
from banyan.engine.messages import (
    AddRequest,
    CancelRequest,
    EngineSettings,
    Failed,
    Loading,
    Pool,
    Pooled,
    Published,
    Ready,
    Refused,
)
from banyan.engine.pending import PendingRequests
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.request_context import ORDINARY, RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.engine.status import EngineStatus, ModelFacts
from banyan.foundation.errors import (
    BanyanError,
    EngineStopped,
    EnvironmentProblem,
    InputError,
)

_logger = logging.getLogger(__name__)

# Reports that a dead process left in the socket are read for this long.
_LAST_WORDS_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When a dead engine is started again, and when a silent one counts as dead.

    Attributes:
        first_delay_seconds: pause before the first restart; doubles while no start succeeds.
        longest_delay_seconds: the doubling ends here.
        silence_seconds: a ready engine that reports nothing for this long is killed; longer than
            any step may take.
    """

    first_delay_seconds: float = 0.2
    longest_delay_seconds: float = 30.0
    silence_seconds: float = 300.0


class EngineClient:
    """An engine process and the requests it works on; see `start` and `close`."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        policy: RestartPolicy | None = None,
        on_loading: Callable[[Loading], None] | None = None,
    ) -> None:
        self._settings = settings
        self._policy = policy or RestartPolicy()
        self._on_loading = on_loading or (lambda _: None)
        self._status = EngineStatus("loading", "the engine is starting", None)
        self._statistics: EngineStatistics | None = None
        self._process: EngineProcess | None = None
        self._pending = PendingRequests()
        self._restart_delay = self._policy.first_delay_seconds
        self._ready: asyncio.Future[ModelFacts] | None = None
        self._supervisor: asyncio.Task[None] | None = None

    async def start(self) -> ModelFacts:
        """Start the process and wait until it is ready.

        Raises:
            InputError: the model or the options cannot be used.
            EngineStopped: the process died while it loaded.
        """
        self._ready = asyncio.get_running_loop().create_future()
        self._supervisor = asyncio.create_task(self._supervise())
        # A start that is given up (Ctrl-C) must not mark the future that the supervisor fills.
        return await asyncio.shield(self._ready)

    async def close(self) -> None:
        """End the process; whatever is in flight fails."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await self._supervisor
        self._become("stopped", "the server is shutting down")

    def status(self) -> EngineStatus:
        """Say at once whether requests can be served."""
        return self._status

    def statistics(self) -> EngineStatistics | None:
        """Return the counters of the newest step; None before the first start."""
        return self._statistics

    @property
    def process_id(self) -> int | None:
        """The engine process's number, None while there is none."""
        return None if self._process is None else self._process.process_id

    async def generate(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        options: SamplingOptions,
        context: RequestContext = ORDINARY,
    ) -> AsyncGenerator[TokenEvent, None]:
        """Yield the events of all `options.n` answers; closing the generator cancels them.

        Raises:
            RequestError: the engine refuses the request.
            EngineStopped: the engine died or is not there.
        """
        process = self._ready_process()
        num_unfinished = options.n
        with self._pending.events(request_id) as events:
            process.send(AddRequest(request_id, tuple(prompt_token_ids), options, context))
            try:
                while num_unfinished:
                    item = await events.get()
                    if isinstance(item, BanyanError):
                        num_unfinished = 0
                        raise item
                    if item.finish_reason is not None:
                        num_unfinished -= 1
                    yield item
            finally:
                if num_unfinished and process is self._process:
                    process.send(CancelRequest(request_id))

    async def pool(self, request_id: str, prompts: Sequence[PoolingPrompt]) -> tuple[bytes, ...]:
        """Return one row per prompt as little-endian float32 bytes; raises as `generate`."""
        process = self._ready_process()
        with self._pending.rows(request_id) as answer:
            process.send(Pool(request_id, tuple(prompts)))
            try:
                return await answer
            except asyncio.CancelledError:
                if process is self._process:
                    process.send(CancelRequest(request_id))
                raise

    def _ready_process(self) -> EngineProcess:
        if self._process is None or self._status.state != "ready":
            raise EngineStopped(f"{self._status.detail}; try again in a few seconds")
        return self._process

    def _become(
        self,
        state: Literal["loading", "ready", "stopped"],
        detail: str,
        *,
        model: ModelFacts | None = None,
        num_restarts: int | None = None,
    ) -> None:
        """Change the status; what is not given stays as it was."""
        before = self._status
        self._status = EngineStatus(
            state,
            detail,
            model=model or before.model,
            num_restarts=before.num_restarts if num_restarts is None else num_restarts,
        )

    async def _supervise(self) -> None:
        """Keep one process alive until cancelled, or until the first one fails to load."""
        while True:
            died = await self._live_once()
            if self._ready is not None and not self._ready.done():
                self._become("stopped", died.message)
                kind = InputError if died.is_input else EngineStopped
                self._ready.set_exception(kind(died.message))
                return
            delay = self._restart_delay
            _logger.error("%s; it starts again in %.1f s", died.message, delay)
            self._become("stopped", f"{died.message}; it starts again in {delay:.1f} s")
            await asyncio.sleep(delay)
            self._restart_delay = min(2 * delay, self._policy.longest_delay_seconds)
            self._become(
                "loading",
                f"{died.message}; it is starting again",
                num_restarts=self._status.num_restarts + 1,
            )

    async def _live_once(self) -> Failed:
        """Run one process from start to end and say why it ended."""
        try:
            process = await launch()
        except (OSError, EnvironmentProblem) as error:
            return Failed(f"the engine process cannot be started: {error}", is_input=False)
        self._process = process
        try:
            died = await self._watch(process)
            # Told at once: to end and clean up a process may take seconds.
            self._become("stopped", died.message)
            self._pending.fail_all(EngineStopped(died.message))
            return died
        except asyncio.CancelledError:
            self._pending.fail_all(EngineStopped("the server is shutting down"))
            if self._status.state != "ready":
                process.kill()  # it would listen only once the model is loaded
            raise
        finally:
            self._process = None
            await _close(process)

    async def _watch(self, process: EngineProcess) -> Failed:
        """Follow a process until it ends, or until it says or shows that it cannot go on."""
        listening = asyncio.create_task(self._listen(process))
        exiting = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({listening, exiting}, return_when=asyncio.FIRST_COMPLETED)
            if exiting.done():
                await asyncio.wait({listening}, timeout=_LAST_WORDS_SECONDS)
            if listening.done():
                return listening.result()
            return Failed(exiting.result(), is_input=False)
        except Exception as error:  # without an answer every reader would wait for ever
            _logger.exception("the reports of the engine process cannot be followed")
            message = f"the engine process sent an unreadable report: {error}"
            return Failed(message, is_input=False)
        finally:
            listening.cancel()
            exiting.cancel()

    async def _listen(self, process: EngineProcess) -> Failed:
        """Route reports until the process says that it fails, or says nothing for too long."""
        await process.begin(self._settings)
        while True:
            # Loading may rightly be silent for minutes: a large file, a slow compiler.
            limit = self._policy.silence_seconds if self._status.state == "ready" else None
            try:
                report = await asyncio.wait_for(process.receive(), limit)
            except TimeoutError:
                process.kill()
                return Failed(
                    f"the engine process did not answer for {limit:g} s and was killed",
                    is_input=False,
                )
            if isinstance(report, Failed):
                return report
            self._note(report)

    def _note(self, report: Loading | Ready | Published | Pooled | Refused) -> None:
        match report:
            case Loading():
                self._become("loading", report.step)
                self._on_loading(report)
            case Ready(model):
                self._restart_delay = self._policy.first_delay_seconds
                self._become("ready", "the engine is ready", model=model)
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(model)
            case Published(_, statistics):
                self._statistics = statistics
                self._pending.deliver(report)
            case Pooled() | Refused():
                self._pending.deliver(report)


async def _close(process: EngineProcess) -> None:
    """Close a process to the end, also when this is cancelled meanwhile."""
    closing = asyncio.create_task(process.close())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await closing
        raise
