"""Which engine process serves: one dies and the next is started, one is replaced by another.

Owns the processes of one model, from the first start to the end of the last; what is asked of them
is `client`'s. Belongs to one event loop.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from banyan.engine.events import EngineStatistics
from banyan.engine.process.incarnation import Incarnation
from banyan.engine.process.launcher import EngineProcess
from banyan.engine.process.messages import EngineSettings, Failed, Loading
from banyan.engine.process.recovery import Recovery, SameAgain, settings_after
from banyan.engine.process.standby import Standby
from banyan.engine.process.status import AdapterFacts, EngineStatus, ModelFacts
from banyan.foundation.errors import BanyanError, EngineStopped, EnvironmentProblem, InputError

_logger = logging.getLogger(__name__)

_SHUTTING_DOWN = "the server is shutting down"
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When a dead engine is started again, and when a silent one counts as dead.

    Attributes:
        first_delay_seconds: pause behind a start that failed; doubles while none succeeds. An
            engine that served is followed at once.
        longest_delay_seconds: the doubling ends here.
        silence_seconds: a ready engine that reports nothing for this long is killed; longer than
            any step may take.
        resume_seconds: a request in flight waits this long for the next engine to take it up; 0
            fails it at once.
        keeps_standby: whether the next process is launched ahead of time and stands by, which takes
            its memory; see `standby`.
    """

    first_delay_seconds: float = 0.1
    longest_delay_seconds: float = 30.0
    silence_seconds: float = 300.0
    resume_seconds: float = 60.0
    keeps_standby: bool = False


class Supervisor:
    """The engine processes of one model; see `start`, `swap`, `drain` and `close`."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        policy: RestartPolicy,
        on_loading: Callable[[Loading], None] | None = None,
        recovery: Recovery | None = None,
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._recovery = recovery or SameAgain()
        self._on_loading = on_loading or (lambda _: None)
        self._status = EngineStatus("loading", "the engine is starting", None)
        self._serving: Incarnation | None = None
        self._serves = asyncio.Event()
        self._is_draining = False
        self._swapping = asyncio.Lock()
        self._is_following = False
        self._num_waiting = 0
        self._alive: set[Incarnation] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._standby = Standby(is_kept=policy.keeps_standby)
        self._started: asyncio.Future[ModelFacts] | None = None
        self._supervisor: asyncio.Task[None] | None = None

    async def start(self) -> ModelFacts:
        """Start the process and wait until it is ready.

        Raises:
            InputError: the model or the options cannot be used.
            EngineStopped: the process died while it loaded.
        """
        self._started = asyncio.get_running_loop().create_future()
        self._supervisor = asyncio.create_task(self._supervise())
        # A start that is given up (Ctrl-C) must not mark the future that the supervisor fills.
        return await asyncio.shield(self._started)

    async def swap(self, settings: EngineSettings, *, drain_seconds: float) -> ModelFacts:
        """Load another model beside the one that serves, then let it serve.

        New requests go to the new engine from the moment it is ready; the old one finishes what it
        has, for at most `drain_seconds`. When the new one cannot be loaded, nothing changes.

        Raises:
            InputError: the model or the options cannot be used, or a swap is going on already.
            EngineStopped: the new process died while it loaded, or nothing serves now.
        """
        if self._swapping.locked():
            raise InputError("a swap is going on already; wait until it is done")
        async with self._swapping:
            self.ready_engine()
            new = await self._launch(settings, on_loading=self._on_loading)
            try:
                model = await asyncio.shield(new.ready)
                old = self.ready_engine()
            except BaseException:
                await new.stop(_SHUTTING_DOWN)
                self._standby.prepare(self._settings)
                raise
            self._settings = settings
            self._serve(new, model)
            # From now on the supervisor follows the new one, which it finds in `_serving`.
            old.is_replaced.set()
            retiring = asyncio.create_task(_retire(old, drain_seconds))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
            return model

    async def move(self, settings: EngineSettings, reason: str) -> ModelFacts:
        """Serve the same model in another way: end the engine, start the next in its place.

        For settings that need devices which the present engine holds, so that no other can load
        beside it. Requests in flight go on in the next engine, and new ones wait for it.

        Args:
            settings: of the next engine.
            reason: one clause, for whoever asks for the status meanwhile.

        Raises:
            InputError: a swap or another move is going on.
            EngineStopped: nothing serves now, or the next engine did not start; the one after it
                is started by itself.
        """
        if self._swapping.locked():
            raise InputError("a swap is going on already; wait until it is done")
        async with self._swapping:
            self.ready_engine()
            process = await self._standby.take()
            new = self._incarnation(process, settings, self._on_loading)
            try:
                old = self.ready_engine()
            except EngineStopped:
                self._alive.discard(new)
                process.kill()
                await process.close()
                raise
            return await self._replace(old, new, reason)

    async def _replace(self, old: Incarnation, new: Incarnation, reason: str) -> ModelFacts:
        self._settings, self._serving = new.settings, new
        self._serves.clear()
        self._is_following = True
        self._become("ready", f"{reason}; requests wait for the next engine")
        old.is_replaced.set()
        # Devices are free for the next engine only when the old one is gone.
        new.begin(self._alive.discard, after=asyncio.create_task(old.stop(reason)))
        model = await asyncio.shield(new.ready)
        self._serve(new, model)
        return model

    def drain(self) -> None:
        """Take no more requests; those in flight go on."""
        self._is_draining = True
        if self._status.state == "ready":
            self._become("draining", f"{_SHUTTING_DOWN}; running answers are finished first")

    async def drained(self, limit_seconds: float) -> bool:
        """Wait until nothing is in flight; false when that takes too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_seconds
        while self._num_waiting or any(alive.num_in_flight for alive in self._alive):
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def close(self) -> None:
        """End every process; whatever is in flight fails."""
        self._is_draining = True
        for task in [task for task in (self._supervisor, *self._retiring) if task is not None]:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._standby.close()
        await asyncio.gather(*(alive.stop(_SHUTTING_DOWN) for alive in list(self._alive)))
        self._become("stopped", _SHUTTING_DOWN)
        self._serves.set()  # wakes those who wait for another engine: there is none

    def status(self) -> EngineStatus:
        """Say at once whether requests can be served."""
        return self._status

    def statistics(self) -> EngineStatistics | None:
        """Return the counters of the newest step; None before the first start."""
        return None if self._serving is None else self._serving.statistics

    @property
    def busy_seconds(self) -> Mapping[str, float]:
        """How long each device of the plan has computed for the engine that serves."""
        return {} if self._serving is None else self._serving.busy_seconds

    @property
    def settings(self) -> EngineSettings:
        """What the engine that serves was built from."""
        return self._settings

    @property
    def process_id(self) -> int | None:
        """The engine process's number, None while there is none."""
        serving = self._serving
        return None if serving is None or serving.is_over else serving.process.process_id

    @property
    def answering_process_id(self) -> int | None:
        """The number of the engine process that answers requests, None while none does."""
        is_ready = self._serving is not None and self._serving.is_ready
        return self.process_id if is_ready else None

    def ready_engine(self) -> Incarnation:
        """The engine that takes requests now.

        Raises:
            EngineStopped: there is none.
        """
        if self._serving is None or not self._serving.is_ready or self._is_draining:
            raise EngineStopped(f"{self._status.detail}; try again in a few seconds")
        return self._serving

    async def available_engine(self) -> Incarnation:
        """The engine that takes requests now, or the one that follows it.

        Raises:
            EngineStopped: there is none.
        """
        if self._is_following and not self._is_draining and not self._serves.is_set():
            problem = f"{self._status.detail}; try again in a few seconds"
            return await self.next_engine(EngineStopped(problem))
        return self.ready_engine()

    async def next_engine(self, error: EngineStopped) -> Incarnation:
        """Wait for the engine that follows one that died of `error`.

        Raises:
            EngineStopped: the error, when none comes in time.
        """
        if self._policy.resume_seconds <= 0:
            raise error
        self._num_waiting += 1
        try:
            await asyncio.wait_for(self._serves.wait(), self._policy.resume_seconds)
        except TimeoutError:
            raise error from None
        finally:
            self._num_waiting -= 1
        if self._serving is None or not self._serving.is_ready:
            raise error
        return self._serving

    def note_adapters(self, engine: Incarnation, adapters: tuple[AdapterFacts, ...]) -> None:
        """Remember which adapters an engine has, so that the one after it loads them again."""
        if engine is self._serving and self._status.model is not None:
            self._note_model(replace(self._status.model, adapters=adapters))

    def _become(
        self,
        state: Literal["loading", "ready", "draining", "stopped"],
        detail: str,
        *,
        model: ModelFacts | None = None,
        num_restarts: int | None = None,
    ) -> None:
        """Change the status; what is not given stays as it was."""
        before = self._status
        restarts = before.num_restarts if num_restarts is None else num_restarts
        model = model or before.model
        self._status = replace(
            before, state=state, detail=detail, model=model, num_restarts=restarts
        )

    async def _supervise(self) -> None:
        """Keep one process alive until cancelled, or until the first one fails to load."""
        delay = self._policy.first_delay_seconds
        while True:
            died, has_served = await self._live_once()
            if self._started is not None and not self._started.done():
                self._become("stopped", died.message)
                kind = InputError if died.is_input else EngineStopped
                self._started.set_exception(kind(died.message))
                return
            settings = await settings_after(self._recovery, died, self._settings, has_served)
            # The same that did not start may never do so: nobody waits for that.
            self._is_following = has_served or settings != self._settings
            if self._is_following:
                delay = self._policy.first_delay_seconds
            self._settings = settings
            if has_served:
                _logger.error("%s; it starts again", died.message)
            else:
                _logger.error("%s; it starts again in %.1f s", died.message, delay)
                self._become("stopped", f"{died.message}; it starts again in {delay:.1f} s")
                await asyncio.sleep(delay)
                delay = min(2 * delay, self._policy.longest_delay_seconds)
            self._become(
                "loading",
                f"{died.message}; it is starting again",
                num_restarts=self._status.num_restarts + 1,
            )

    async def _live_once(self) -> tuple[Failed, bool]:
        """Run a process, and those that replace it, from start to end; say why the last one ended.

        The second result tells whether it served.
        """
        try:
            incarnation = await self._launch(self._settings, on_loading=self._note_loading)
        except (OSError, EnvironmentProblem) as error:
            reason = f"the engine process cannot be started: {error}"
            return Failed(reason, is_input=False), False
        self._serving = incarnation
        try:
            model = await asyncio.shield(incarnation.ready)
        except BanyanError:
            return await incarnation.ended(), False
        self._serve(incarnation, model)
        if self._started is not None and not self._started.done():
            self._started.set_result(model)
        while await incarnation.served_until_replaced():
            assert self._serving is not None
            incarnation = self._serving
        return await incarnation.ended(), incarnation.has_served

    async def _launch(
        self, settings: EngineSettings, *, on_loading: Callable[[Loading], None]
    ) -> Incarnation:
        incarnation = self._incarnation(await self._standby.take(), settings, on_loading)
        incarnation.begin(self._alive.discard)
        return incarnation

    def _incarnation(
        self,
        process: EngineProcess,
        settings: EngineSettings,
        on_loading: Callable[[Loading], None],
    ) -> Incarnation:
        incarnation = Incarnation(
            process,
            settings,
            silence_seconds=self._policy.silence_seconds,
            on_loading=on_loading,
            on_end=self._note_end,
        )
        self._alive.add(incarnation)
        return incarnation

    def _serve(self, incarnation: Incarnation, model: ModelFacts) -> None:
        self._serving = incarnation
        self._become("ready", "the engine is ready", model=model)
        self._note_model(model)
        self._standby.prepare(self._settings)
        if self._is_draining:
            self.drain()
        self._serves.set()

    def _note_loading(self, loading: Loading) -> None:
        self._become("loading", loading.step)
        self._on_loading(loading)

    def _note_end(self, incarnation: Incarnation, died: Failed) -> None:
        if incarnation is self._serving:
            self._is_following |= incarnation.has_served
            self._serves.clear()
            self._become("stopped", died.message)

    def _note_model(self, model: ModelFacts) -> None:
        """Let the next process load the adapters of this one, as far as it still can."""
        self._status = replace(self._status, model=model)
        options = self._settings.options
        self._settings = msgspec.structs.replace(
            self._settings,
            options=replace(options, lora_modules=(), enable_lora=options.has_adapters),
            adapters=tuple((adapter.name, adapter.path) for adapter in model.adapters),
        )


async def _retire(incarnation: Incarnation, drain_seconds: float) -> None:
    """Let a replaced engine finish what it has, then end it."""
    if not await incarnation.drained(drain_seconds):
        _logger.warning(
            "%d requests of the replaced engine go on in the new one after %g s",
            incarnation.num_in_flight,
            drain_seconds,
        )
    await incarnation.stop("the model was replaced")
