"""Several copies of one model in processes of their own, used as one: the replicas of a plan.

Every replica has a supervisor, which keeps it alive; a request goes to one of them, and on to
another when its replica dies. Adapters are loaded on all. Called by the gateway, as an
`EngineClient` is; belongs to one event loop.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import msgspec

from banyan.devices.cpu_probe import CpuProbe
from banyan.engine.events import EngineStatistics, TokenEvent
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.process.caller_limit import CallerLimit
from banyan.engine.process.incarnation import Incarnation
from banyan.engine.process.messages import (
    AddRequest,
    EngineSettings,
    LoadAdapter,
    Loading,
    Pool,
    Transcribe,
    UnloadAdapter,
)
from banyan.engine.process.replica_totals import joined_model, joined_statistics, joined_status
from banyan.engine.process.resumption import Told
from banyan.engine.process.routing import (
    ANSWER_WORTH,
    PrefixDirectory,
    ReplicaLoad,
    choose_replica,
)
from banyan.engine.process.status import EngineStatus, ModelFacts
from banyan.engine.process.succession import asked_of, events_over
from banyan.engine.process.supervisor import RestartPolicy, Supervisor
from banyan.engine.replica_options import options_of_replicas, speeds_of_replicas
from banyan.engine.request_context import ORDINARY, RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speech.transcript import Transcript, TranscriptionOptions
from banyan.foundation.errors import BanyanError, EngineStopped
from banyan.models.vision.media import Media
from banyan.planner.plan import Plan
from banyan.planner.plan_file import parse_plan

Result = TypeVar("Result")

_MOST_BLOCKS = 1 << 17
"""Two million tokens of prompts whose replicas are remembered, in some tens of megabytes."""


@dataclass(slots=True, eq=False)
class _Seat:
    """Where a request is.

    Attributes:
        replica: its number.
        owed_tokens: what it counts there.
    """

    replica: int
    owed_tokens: int


class ReplicaClient:
    """The engine processes of a plan's replicas; a `Backend` of the gateway."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        policy: RestartPolicy | None = None,
        most_per_caller: int = 0,
        on_loading: Callable[[Loading], None] | None = None,
    ) -> None:
        """Take the settings with the whole plan.

        Raises:
            InputError: the plan cannot be read.
        """
        self._settings = settings
        self._policy = policy or RestartPolicy()
        self._callers = CallerLimit(most_per_caller)
        self._supervisors = [
            Supervisor(each, policy=self._policy, on_loading=on_loading)
            for each in settings_of_replicas(settings, free_memory_bytes())
        ]
        self._speeds = speeds_of_replicas(_plan_of(settings))
        self._seats: set[_Seat] = set()
        self._prefixes = PrefixDirectory(_MOST_BLOCKS)
        self._num_restarts = [0] * len(self._supervisors)

    async def start(self) -> ModelFacts:
        """Start all replicas, one after the other, and wait until they are ready.

        Those that are ready serve meanwhile; what one compiled the next one finds.

        Raises:
            InputError: the model or the options cannot be used.
            EngineStopped: a process died while it loaded.
        """
        models = [await supervisor.start() for supervisor in self._supervisors]
        return joined_model(models)

    async def swap(self, settings: EngineSettings, *, drain_seconds: float) -> ModelFacts:
        """Load another model in every replica, one after the other, each beside its old one.

        When one cannot be loaded, those that were replaced get their old model back.

        Raises:
            InputError: the model or the options cannot be used, or a swap is going on already.
            EngineStopped: a new process died while it loaded, or a replica does not serve now.
        """
        before = [supervisor.settings for supervisor in self._supervisors]
        models: list[ModelFacts] = []
        try:
            for supervisor, each in zip(
                self._supervisors,
                settings_of_replicas(settings, free_memory_bytes()),
                strict=True,
            ):
                models.append(await supervisor.swap(each, drain_seconds=drain_seconds))
        except BanyanError:
            for supervisor, old in list(zip(self._supervisors, before, strict=True))[: len(models)]:
                with suppress(BanyanError):
                    await supervisor.swap(old, drain_seconds=drain_seconds)
            raise
        self._settings = settings
        return joined_model(models)

    def drain(self) -> None:
        """Take no more requests; those in flight go on."""
        for supervisor in self._supervisors:
            supervisor.drain()

    async def drained(self, limit_seconds: float) -> bool:
        """Wait until nothing is in flight; false when that takes too long."""
        return all(await asyncio.gather(*(s.drained(limit_seconds) for s in self._supervisors)))

    async def close(self) -> None:
        """End every process; whatever is in flight fails."""
        await asyncio.gather(*(supervisor.close() for supervisor in self._supervisors))

    @property
    def settings(self) -> EngineSettings:
        """What the replicas were built from."""
        return self._settings

    @property
    def process_ids(self) -> Sequence[int | None]:
        """The number of each replica's process, None for one that has none now."""
        return [supervisor.process_id for supervisor in self._supervisors]

    def replicas(self) -> Sequence[tuple[EngineStatus, EngineStatistics | None]]:
        """Each replica for itself."""
        return [(supervisor.status(), supervisor.statistics()) for supervisor in self._supervisors]

    def status(self) -> EngineStatus:
        """Say at once whether requests can be served: by one replica at least."""
        return joined_status([supervisor.status() for supervisor in self._supervisors])

    def statistics(self) -> EngineStatistics | None:
        """Return the counters of all replicas together; None before the first start."""
        found = [supervisor.statistics() for supervisor in self._supervisors]
        return joined_statistics([counted for counted in found if counted is not None])

    async def generate(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        options: SamplingOptions,
        context: RequestContext = ORDINARY,
        media: Sequence[Media] = (),
    ) -> AsyncGenerator[TokenEvent, None]:
        """Yield the events of all `options.n` answers; closing the generator cancels them.

        When the replica dies midway another takes the request up behind the last token told.

        Raises:
            RequestError: the engine refuses the request.
            Overloaded: there is no room for it now.
            EngineStopped: no replica is there, or one died and none took the request up.
        """
        told = Told(
            AddRequest(request_id, tuple(prompt_token_ids), options, context, media=tuple(media))
        )
        with self._callers.counted(context.caller):
            seat, engine = await self._seated(told.request)
            try:
                events = events_over(told, engine, partial(self._another, told.request, seat))
                async with aclosing(events) as following:
                    async for event in following:
                        # Its prompt is computed; what is left are its answers.
                        seat.owed_tokens = ANSWER_WORTH * told.num_unfinished
                        yield event
            finally:
                self._seats.discard(seat)

    async def pool(
        self, request_id: str, prompts: Sequence[PoolingPrompt], *, caller: str = ""
    ) -> tuple[bytes, ...]:
        """Return one row per prompt as little-endian float32 bytes; raises as `generate`."""
        request = Pool(request_id, tuple(prompts))
        return await self._ask(lambda one: one.pool(request), caller)

    async def transcribe(
        self, request_id: str, sound: bytes, options: TranscriptionOptions, *, caller: str = ""
    ) -> Transcript:
        """Return what is said in the bytes of a file; raises as `generate`."""
        request = Transcribe(request_id, sound, options)
        return await self._ask(lambda one: one.transcribe(request), caller)

    async def load_adapter(self, name: str, path: str, *, replaces: bool = False) -> None:
        """Let requests name the adapter at `path`, on every replica or on none.

        Raises:
            RequestError: it cannot be used, or the name is taken.
            EngineStopped: a replica is not there.
        """
        engines = [supervisor.ready_engine() for supervisor in self._supervisors]
        for number, engine in enumerate(engines):
            try:
                await self._change(number, engine, LoadAdapter(uuid4().hex, name, path, replaces))
            except BanyanError:
                for other, before in enumerate(engines[:number]):
                    with suppress(BanyanError):
                        await self._change(other, before, UnloadAdapter(uuid4().hex, name))
                raise

    async def unload_adapter(self, name: str) -> None:
        """Drop an adapter; raises as `load_adapter`."""
        engines = [supervisor.ready_engine() for supervisor in self._supervisors]
        for number, engine in enumerate(engines):
            await self._change(number, engine, UnloadAdapter(uuid4().hex, name))

    async def _change(
        self, number: int, engine: Incarnation, command: LoadAdapter | UnloadAdapter
    ) -> None:
        adapters = await engine.change_adapters(command)
        self._supervisors[number].note_adapters(engine, adapters)

    async def _ask(self, ask: Callable[[Incarnation], Awaitable[Result]], caller: str) -> Result:
        request = AddRequest("", (), SamplingOptions())
        with self._callers.counted(caller):
            seat, engine = await self._seated(request)
            try:
                return await asked_of(ask, engine, partial(self._another, request, seat))
            finally:
                self._seats.discard(seat)

    async def _seated(self, request: AddRequest) -> tuple[_Seat, Incarnation]:
        """Choose a replica for a request, and count the request there.

        Raises:
            EngineStopped: none is ready, and none follows one that was.
        """
        number = choose_replica(self._loads(request), len(request.prompt_token_ids))
        if number is None:
            number = await self._awaited(request, [s.available_engine() for s in self._supervisors])
        if number is None:
            raise EngineStopped(f"{self.status().detail}; try again in a few seconds")
        seat = _Seat(number, 0)
        self._seats.add(seat)
        return seat, self._sit(seat, number, request)

    def _sit(self, seat: _Seat, number: int, request: AddRequest) -> Incarnation:
        prompt, key = request.prompt_token_ids, _cache_key(request)
        cached = self._prefixes.cached_tokens(prompt, key, len(self._supervisors))
        seat.replica = number
        seat.owed_tokens = len(prompt) - cached[number] + ANSWER_WORTH * request.options.n
        self._prefixes.note(prompt, key, number)
        return self._supervisors[number].ready_engine()

    def _loads(self, request: AddRequest) -> list[ReplicaLoad]:
        prompt, key, loads = request.prompt_token_ids, _cache_key(request), []
        cached = self._prefixes.cached_tokens(prompt, key, len(self._supervisors))
        for number, supervisor in enumerate(self._supervisors):
            status = supervisor.status()
            if status.num_restarts != self._num_restarts[number]:
                self._num_restarts[number] = status.num_restarts
                self._prefixes.forget(number)
            owed = sum(seat.owed_tokens for seat in self._seats if seat.replica == number)
            is_ready = _is_ready(supervisor)
            loads.append(ReplicaLoad(self._speeds[number], owed, cached[number], is_ready))
        return loads

    async def _another(self, request: AddRequest, seat: _Seat, error: EngineStopped) -> Incarnation:
        """The replica that goes on with a request whose replica died: one that is ready, or the
        first that will be.

        Raises:
            EngineStopped: the error, when none comes in time.
        """
        number = choose_replica(self._loads(request), len(request.prompt_token_ids))
        if number is None:
            every = [supervisor.next_engine(error) for supervisor in self._supervisors]
            number = await self._awaited(request, every)
        if number is None:
            raise error
        return self._sit(seat, number, request)

    async def _awaited(
        self, request: AddRequest, engines: Sequence[Coroutine[Any, Any, Incarnation]]
    ) -> int | None:
        """The replica for a request once one of these engines is there; None where none comes."""
        waiting, number = [asyncio.create_task(engine) for engine in engines], None
        try:
            while waiting and number is None:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                waiting = [task for task in waiting if task not in done]
                for task in done:
                    task.exception()
                number = choose_replica(self._loads(request), len(request.prompt_token_ids))
        finally:
            for task in waiting:
                task.cancel()
        return number


def settings_of_replicas(settings: EngineSettings, free_bytes: int) -> list[EngineSettings]:
    """What each replica is built from.

    Args:
        settings: with the whole plan.
        free_bytes: memory of this machine, of which each replica may take an even share unless
            the options say how much.

    Raises:
        InputError: the plan cannot be read, or its replicas share a device.
    """
    each = options_of_replicas(settings.options, _plan_of(settings), free_bytes)
    return [msgspec.structs.replace(settings, options=own) for own in each]


def free_memory_bytes() -> int:
    """Memory of this machine that nobody uses."""
    probe = CpuProbe()
    return max(0, probe.inventory()[0].memory_bytes - probe.usage()[0].memory_used_bytes)


def _plan_of(settings: EngineSettings) -> Plan:
    assert settings.options.plan is not None, "replicas are those of a plan"
    return parse_plan(settings.options.plan)


def _is_ready(supervisor: Supervisor) -> bool:
    try:
        supervisor.ready_engine()
    except EngineStopped:
        return False
    return True


def _cache_key(request: AddRequest) -> tuple[object, ...]:
    return request.context.cache_salt, request.context.adapter
