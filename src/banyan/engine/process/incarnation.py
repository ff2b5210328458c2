"""One engine process from its start to its end, with the requests it works on.

Owns following its reports; `client` decides which incarnation serves and what comes after it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TypeVar

from banyan.distributed.silence import Silence
from banyan.engine.events import EngineStatistics, TokenEvent
from banyan.engine.process.launcher import EngineProcess
from banyan.engine.process.messages import (
    AddRequest,
    CancelRequest,
    Done,
    EngineSettings,
    Failed,
    LoadAdapter,
    Loading,
    Pool,
    Pooled,
    Published,
    Ready,
    Refused,
    Transcribe,
    Transcribed,
    UnloadAdapter,
)
from banyan.engine.process.pending import PendingRequests
from banyan.engine.process.status import AdapterFacts, ModelFacts
from banyan.engine.speech.transcript import Transcript
from banyan.engine.starting.stopped import LOOK_SECONDS, StoppedLooks, stopped_among
from banyan.foundation.errors import BanyanError, EngineStopped, InputError

Result = TypeVar("Result")

_logger = logging.getLogger(__name__)

# Reports that a dead process left in the socket are read for this long: why it ended, which one
# that was killed did not say. Tokens that are missed are computed again.
_LAST_WORDS_SECONDS = 0.2
_KILLED_WORDS_SECONDS = 0.02
_POLL_SECONDS = 0.02


class Incarnation:
    """A process that loads a model, serves it and ends; `begin` lets it do so.

    Args:
        process: just launched.
        settings: what it loads.
        silence_seconds: once ready it is killed when it reports nothing for so long.
        on_loading: told of each step of the start.
        on_end: told why it ended, before it is cleaned up.

    Attributes:
        ready: what it says of its model; fails when it ends before that.
        statistics: the counters of its newest step.
        busy_seconds: device of the plan -> how long it has computed.
        is_over: it answers nothing any more.
        is_replaced: set once another incarnation serves instead.
    """

    def __init__(
        self,
        process: EngineProcess,
        settings: EngineSettings,
        *,
        silence_seconds: float,
        on_loading: Callable[[Loading], None],
        on_end: Callable[["Incarnation", Failed], None],
    ) -> None:
        self.process = process
        self.settings = settings
        self.ready: asyncio.Future[ModelFacts] = asyncio.get_running_loop().create_future()
        self.statistics: EngineStatistics | None = None
        self.busy_seconds: Mapping[str, float] = {}
        self.is_over = False
        self.is_replaced = asyncio.Event()
        self._pending = PendingRequests()
        self._silence_seconds = silence_seconds
        self._silence = Silence(silence_seconds, time.monotonic())
        self._was_stopped = False
        self._place = ""
        self._on_loading = on_loading
        self._on_end = on_end
        self._following: asyncio.Task[Failed] | None = None
        self._reason = "the engine process was ended"

    @property
    def is_ready(self) -> bool:
        """Whether it serves."""
        return self.has_served and not self.is_over

    @property
    def has_served(self) -> bool:
        """Whether it was ready once."""
        return self.ready.done() and self.ready.exception() is None

    @property
    def is_ended_from_outside(self) -> bool:
        """Whether somebody replaced or stopped it, which no request can bring about."""
        return self._was_stopped or self.is_replaced.is_set()

    @property
    def place_at_fault(self) -> str:
        """The device of a plan that it ended of; empty where it was none, or is not known."""
        return self._place

    @property
    def num_in_flight(self) -> int:
        """Requests that are not answered to the end."""
        return len(self._pending)

    async def generate(
        self, request: AddRequest, num_unfinished: int
    ) -> AsyncGenerator[TokenEvent]:
        """Yield the events of a request until so many answers are whole; closing cancels it.

        Raises:
            RequestError: the engine refuses the request.
            EngineStopped: the process ended; `is_over` tells this from a failure of its own.
        """
        with self._pending.events(request.request_id) as events:
            self.process.send(request)
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
                if num_unfinished and not self.is_over:
                    self.process.send(CancelRequest(request.request_id))

    async def pool(self, request: Pool) -> tuple[bytes, ...]:
        """Return the rows of a request; raises as `generate`."""
        with self._pending.rows(request.request_id) as answer:
            return await self._asked(request, answer)

    async def transcribe(self, request: Transcribe) -> Transcript:
        """Return what was heard; raises as `generate`."""
        with self._pending.transcript(request.request_id) as answer:
            return await self._asked(request, answer)

    async def _asked(self, request: Pool | Transcribe, answer: "asyncio.Future[Result]") -> Result:
        self.process.send(request)
        try:
            return await answer
        except asyncio.CancelledError:
            if not self.is_over:
                self.process.send(CancelRequest(request.request_id))
            raise

    async def change_adapters(
        self, command: LoadAdapter | UnloadAdapter
    ) -> tuple[AdapterFacts, ...]:
        """Load or drop an adapter and return those that are loaded then.

        Raises:
            RequestError: the engine refuses it.
            EngineStopped: the process ended.
        """
        with self._pending.change(command.request_id) as answer:
            self.process.send(command)
            return await answer

    def begin(
        self, on_gone: Callable[["Incarnation"], None], after: "asyncio.Task[None] | None" = None
    ) -> None:
        """Load and serve from now on, or once `after` is done.

        `on_gone` is told when nothing is left of the process.
        """
        self._following = asyncio.create_task(self._follow(after))
        self._following.add_done_callback(lambda _: on_gone(self))

    async def ended(self) -> Failed:
        """Wait until the process is gone and say why."""
        assert self._following is not None, "begin comes first"
        return await asyncio.shield(self._following)

    async def served_until_replaced(self) -> bool:
        """Wait until it is replaced or ends; true when it was replaced."""
        assert self._following is not None, "begin comes first"
        replaced = asyncio.create_task(self.is_replaced.wait())
        try:
            await asyncio.wait({replaced, self._following}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            replaced.cancel()
        return self.is_replaced.is_set()

    async def stop(self, reason: str) -> None:
        """End the process; whatever is in flight fails with the reason."""
        assert self._following is not None, "begin comes first"
        self._reason = reason
        self._following.cancel()
        await asyncio.wait({self._following})

    async def _follow(self, after: "asyncio.Task[None] | None") -> Failed:
        """Serve until the process ends, and say why it did; everything in flight is told too."""
        try:
            if after is not None:
                await asyncio.wait({after})
            died = await self._watch()
            # Told at once: to end and clean up a process may take seconds.
            self._end(died)
            return died
        except asyncio.CancelledError:
            if not self.is_ready:
                self.process.kill()  # it would listen only once the model is loaded
            self._end(Failed(self._reason, is_input=False))
            raise
        finally:
            await self._close()

    async def drained(self, limit_seconds: float) -> bool:
        """Wait until nothing is in flight; false when that takes too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_seconds
        while self.num_in_flight and not self.is_over:
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _end(self, died: Failed) -> None:
        """Tell everybody who waits for something that it will not come."""
        self.is_over, self._place = True, died.place
        if not self.ready.done():
            self.ready.set_exception((InputError if died.is_input else EngineStopped)(died.message))
            self.ready.exception()  # whoever waits is told; nobody need wait
        self._on_end(self, died)
        self._pending.fail_all(EngineStopped(died.message))

    async def _watch(self) -> Failed:
        """Follow the process until it ends, or until it says or shows that it cannot go on."""
        listening = asyncio.create_task(self._listen())
        exiting = asyncio.create_task(self.process.wait())
        judging = asyncio.create_task(self._given_up())
        try:
            every = {listening, exiting, judging}
            await asyncio.wait(every, return_when=asyncio.FIRST_COMPLETED)
            if judging.done():
                return judging.result()
            if exiting.done():
                is_killed = self.process.was_killed
                patience = _KILLED_WORDS_SECONDS if is_killed else _LAST_WORDS_SECONDS
                await asyncio.wait({listening}, timeout=patience)
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
            judging.cancel()

    async def _given_up(self) -> Failed:
        """Wait until somebody stops the process or it says nothing for too long, and kill it then.

        Only time in which this process ran counts: it may have been stopped for minutes itself.
        """
        looks, number = StoppedLooks(), self.process.process_id
        reason = f"did not answer for {self._silence_seconds:g} s and was killed"
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            looks = looks.seen(stopped_among([number]), now)
            if number in looks.given_up:
                # It would hold up its readers.
                self._was_stopped, reason = True, "was stopped, and was killed for that"
                break
            # Loading may rightly be silent for minutes: a large file, a slow compiler.
            if self.is_ready and self._silence.observe(now):
                break
        self.process.kill()
        return Failed(f"the engine process {reason}", is_input=False)

    async def _listen(self) -> Failed:
        """Route reports until the process says that it fails."""
        await self.process.begin(self.settings)
        while True:
            report = await self.process.receive()
            self._silence.heard(time.monotonic())
            if isinstance(report, Failed):
                return report
            self._note(report)

    def _note(
        self, report: Loading | Ready | Published | Pooled | Transcribed | Done | Refused
    ) -> None:
        match report:
            case Loading():
                self._on_loading(report)
            case Ready(model):
                self.ready.set_result(model)
            case Published(_, statistics, busy_seconds):
                self.statistics, self.busy_seconds = statistics, busy_seconds
                self._deliver(report)
            case Pooled() | Transcribed() | Done() | Refused():
                self._deliver(report)

    def _deliver(self, report: Published | Pooled | Transcribed | Done | Refused) -> None:
        for request_id in self._pending.deliver(report):
            self.process.send(CancelRequest(request_id))

    async def _close(self) -> None:
        """Close the process to the end, also when this is cancelled meanwhile."""
        closing = asyncio.create_task(self.process.close())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await closing
            raise
