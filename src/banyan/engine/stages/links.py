"""Several channels read as one: whatever comes first, from whomever.

Used by workers, which hear the engine and their neighbours, and by the engine, which hears all of
its workers. A broken channel is reported like a message, once, and read no more.
"""

import math
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from banyan.distributed.channel import Channel, Message
from banyan.distributed.pulse import OwnPulse
from banyan.engine.stages.look_times import ASLEEP, LookTimes
from banyan.foundation.errors import ChannelError, MessageLate

_TICK_SECONDS = 0.25
"""How often silence is judged while nothing comes."""

_LOOKS = 8
"""Between two rehearsals; they take about as long as one."""


class Arrival(NamedTuple):
    """What came.

    Attributes:
        name: of the channel.
        content: a message, or why there will be none any more.
    """

    name: str
    content: Message | ChannelError


class Links:
    """Channels by name."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        own_pulse: OwnPulse | None = None,
        rehearse: Callable[[], object] | None = None,
    ) -> None:
        """Read channels; they stay their owner's to close.

        Args:
            channels: open ones.
            own_pulse: told when this process waits; shared by all channels of a worker.
            rehearse: called now and then while looking; see `rehearsal`.
        """
        self._channels: dict[str, Channel] = {}
        self._names: dict[int, str] = {}
        self._poller = select.poll()
        self._own_pulse = own_pulse
        self._rehearse = rehearse
        self._look_times = LookTimes()
        self._last = ""
        self._taken_in: deque[Arrival] = deque()
        self._broken: dict[str, Channel] = {}
        for name, channel in channels.items():
            self.add(name, channel)

    def add(self, name: str, channel: Channel) -> None:
        """Read one more."""
        self._channels[name] = channel
        self._names[channel.fileno()] = name
        self._poller.register(channel.fileno(), select.POLLIN)

    def send(self, name: str, message: Message) -> None:
        """Send over a channel, and take in what others send while there is no room.

        Workers that send to each other in a circle would otherwise all wait for room that none
        makes.

        Raises:
            ChannelError: that channel is broken.
        """
        channel = self._channels.get(name) or self._broken[name]
        channel.send(message, meanwhile=partial(self._take_in, name))

    def _take_in(self, name: str) -> None:
        """Read all channels but one, over which a message waits for room."""
        for other in tuple(self._channels):
            if other != name:
                while (found := self._read(other)) is not None:
                    self._taken_in.append(found)
                    if isinstance(found.content, ChannelError):
                        break

    def receive(self, seconds: float | None = None, *, is_urgent: bool = True) -> Arrival | None:
        """What comes next.

        Args:
            seconds: to wait at most; 0 only looks; None: until something comes.
            is_urgent: somebody waits for what is done with it; else this sleeps until it comes, and
                leaves the core to those who are waited for.

        Returns:
            None: nothing came in that time.
        """
        found = self._look(0)
        if found is not None or seconds == 0:
            return found
        if self._own_pulse is not None:
            self._own_pulse.waits()
        try:
            return self._wait(math.inf if seconds is None else seconds, is_urgent=is_urgent)
        finally:
            if self._own_pulse is not None:
                self._own_pulse.works(time.monotonic())

    def _wait(self, longest: float, *, is_urgent: bool) -> Arrival | None:
        start, last = time.monotonic(), self._last
        times = self._look_times.of(last) if is_urgent else ASLEEP
        found = self._look(min(longest, times.sleep_milliseconds / 1000))
        while found is None and (waited := time.monotonic() - start) < longest:
            if waited < times.look_until_seconds:
                found = self._look_again()
            else:
                found = self._look(min(longest - waited, _TICK_SECONDS)) or self._judge_silence()
        if found is not None:
            self._look_times.came(last, time.monotonic() - start)
        return found

    def _look_again(self) -> Arrival | None:
        """Some looks; whoever computes on this core goes before each."""
        if self._rehearse is not None:
            self._rehearse()
        for _ in range(_LOOKS):
            os.sched_yield()
            if (found := self._look(0)) is not None:
                return found
        return None

    def _look(self, seconds: float) -> Arrival | None:
        """One look at what is here, or comes within `seconds`."""
        if self._taken_in:
            return self._taken_in.popleft()
        for name, channel in self._channels.items():
            if channel.has_message or channel.is_closed:
                return self._read(name)
        for descriptor, _ in self._poller.poll(1000 * seconds):
            if found := self._read(self._names[descriptor]):
                return found
        return None

    def _judge_silence(self) -> Arrival | None:
        """Ask every channel: one whose other side has not beaten breaks now."""
        return next((found for name in tuple(self._channels) if (found := self._read(name))), None)

    def _read(self, name: str) -> Arrival | None:
        channel = self._channels[name]
        try:
            message = channel.receive(timeout=0)
            self._last = f"{name} {message.kind}"
            return Arrival(name, message)
        except MessageLate:
            return None
        except ChannelError as error:
            self._forget(name)
            return Arrival(name, error)

    def _forget(self, name: str) -> None:
        self._broken[name] = self._channels.pop(name)
        descriptor = next(fd for fd, of in self._names.items() if of == name)
        del self._names[descriptor]
        with suppress(KeyError, OSError):
            self._poller.unregister(descriptor)

    def __iter__(self) -> Iterator[str]:
        """The names of those that are read."""
        return iter(tuple(self._channels))
