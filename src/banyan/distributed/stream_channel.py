"""A channel over a socket, with or without memory that both sides share.

Owns the order of things: what is sent when there is room, what comes in meanwhile, when silence has
lasted too long, and what the channel is after a fault. `local` and `tcp` open such channels.

Two locks: one thread at a time writes, one reads. A sender that waits for room also reads when
nobody else does, so two ends that send to each other do not wait for each other; the heart
(`heart`) writes beats when nobody else writes.
"""

import contextlib
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from banyan.distributed.channel import Meanwhile, Message, PeerPulse, Reservation, TypedShape
from banyan.distributed.frames import (
    Beat,
    Credit,
    Frame,
    FrameLimits,
    FrameType,
    read_beat,
    read_credit,
    read_message_head,
)
from banyan.distributed.heart import Heart
from banyan.distributed.layout import Layouts
from banyan.distributed.opened import Opened
from banyan.distributed.pulse import OwnPulse, Timing
from banyan.distributed.silence import Silence
from banyan.distributed.unfinished import await_written
from banyan.distributed.usual_wait import UsualWaits
from banyan.foundation.errors import (
    BanyanError,
    ChannelClosed,
    ChannelError,
    DamagedMessage,
    MessageLate,
    PeerLost,
    PeerSilent,
)

_NOTHING_READ = np.empty(0, np.uint8)
_CREDIT_SPIN_SECONDS = 50e-6
_MEANWHILE_SECONDS = 0.002


class StreamChannel:
    """See `Channel`. Opened by `local` and `tcp`."""

    def __init__(
        self, opened: Opened, timing: Timing, limits: FrameLimits, own_pulse: OwnPulse | None = None
    ) -> None:
        """Take over an opened connection.

        Args:
            opened: it.
            timing: when what is due.
            limits: what is refused.
            own_pulse: of this worker; channels of one worker share one. None: one of its own.
        """
        now = time.monotonic()
        self._framed = opened.framed
        self._outgoing = opened.outgoing
        self._loans = opened.loans
        self._layouts = Layouts(limits)
        self._timing = timing
        self._peer = f"{opened.theirs.name} ({opened.place})"
        self._own_pulse = own_pulse or OwnPulse(now)
        self._silence = Silence(timing.silent_seconds, now)
        self._peer_working_seconds = 0.0
        self._usual_waits = UsualWaits(timing.spin_seconds)
        self._last_kind = ""
        self._inbox: deque[Message] = deque()
        self._fault: ChannelError | None = None
        self._is_closed = False
        self._sending = threading.Lock()
        self._receiving = threading.Lock()
        self._take(opened.early)
        self._heart = Heart(self, timing.beat_seconds)

    @property
    def peer(self) -> str:
        """Who is on the other side."""
        return self._peer

    @property
    def is_closed(self) -> bool:
        """This end was closed, or broke."""
        return self._is_closed or self._fault is not None

    @property
    def has_message(self) -> bool:
        """A message is here already."""
        return bool(self._inbox)

    @property
    def pulse(self) -> PeerPulse:
        """How the process on the other side is."""
        return PeerPulse(self._silence.seconds, self._peer_working_seconds)

    def fileno(self) -> int:
        """The descriptor of the socket."""
        return self._framed.fileno()

    def send(
        self, message: Message, timeout: float | None = None, meanwhile: Meanwhile | None = None
    ) -> None:
        """See `Channel.send`."""
        framed, arrays = self._framed, message.arrays
        layout = self._layouts.of(message.kind, arrays)
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._sending:
            if is_reserved := isinstance(arrays, Reservation):
                arrays.check_unspent(message.kind)
            if self._is_closed or self._fault is not None:
                self._check_open()
            try:
                if not (framed.is_clear or self._flush_until(deadline, meanwhile)):
                    raise MessageLate(
                        f"{self._peer} had no room for message {message.kind!r} within {timeout} s."
                    )
                if not is_reserved and self._outgoing.wants_credit(layout.num_bytes):
                    self._wait_for_memory(layout.num_bytes)
                is_sent = self._outgoing.send(framed, message, layout)
                if not (is_sent or self._flush_until(deadline, meanwhile)):
                    framed.keep_rest()
            except DamagedMessage as error:
                raise self._broken(error) from error
            except OSError as error:
                # What it sent before it went is still good, and may be a goodbye.
                while self._read_if_nobody_does():
                    pass
                raise self._broken(self._lost(error)) from error

    def reserve(self, wanted: Mapping[str, TypedShape]) -> Reservation:
        """See `Channel.reserve`."""
        layout = self._layouts.of("reserved", wanted)
        with self._sending:
            self._check_open()
            if self._outgoing.wants_credit(layout.num_bytes):
                self._wait_for_memory(layout.num_bytes)
            return self._outgoing.reserve(layout)

    def give_back(self, reservation: Reservation) -> None:
        """See `Channel.give_back`."""
        with self._sending:
            self._outgoing.give_back(reservation)

    def _flush_until(self, deadline: float | None, meanwhile: Meanwhile | None) -> bool:
        """Send what is lined up; False when the time is over before all of it went."""
        while not self._framed.flush():
            seconds = self._next_look(deadline)
            if seconds <= 0:
                return False
            if meanwhile is not None:
                meanwhile()
                seconds = min(seconds, _MEANWHILE_SECONDS)
            self._wait_and_read(select.POLLIN | select.POLLOUT, seconds)
        return True

    def _wait_for_memory(self, size: int) -> None:
        """Take in the credits that came; wait a little for them if much of the memory is taken.

        Not longer: the reader may keep arrays for ever. Then fresh memory is used, or none.
        """
        start = time.monotonic()
        while self._outgoing.wants_credit(size):
            if self._read_if_nobody_does():
                continue
            waited = time.monotonic() - start
            if waited >= self._outgoing.patience_seconds:
                return
            if waited >= _CREDIT_SPIN_SECONDS:
                time.sleep(_CREDIT_SPIN_SECONDS)  # Credit given in words wakes nobody.

    def _wait_and_read(self, events: int, seconds: float) -> None:
        ready = self._framed.wait(events, seconds)
        if not self._receiving.locked() or ready == select.POLLOUT:
            self._read_if_nobody_does()
        else:
            # Another thread reads: do not spin on a socket that is readable for it.
            time.sleep(0.0005)
        self._check_open()

    def _read_if_nobody_does(self) -> bool:
        """Read once, unless another thread does; whether anything came."""
        if not self._receiving.acquire(blocking=False):
            return False
        try:
            has_read = self._framed.is_readable and self._read()
            if not has_read and self._fault is None:
                self._check_silence()
            return has_read
        finally:
            self._receiving.release()

    def receive(self, timeout: float | None = None) -> Message:
        """See `Channel.receive`."""
        self._own_pulse.waits()
        try:
            with self._receiving:
                return self._receive(timeout)
        finally:
            self._own_pulse.works(time.monotonic())

    def _receive(self, timeout: float | None) -> Message:
        self._give_credit(is_idle=False)
        if self._inbox:
            return self._next_message()
        start = time.monotonic()
        deadline = None if timeout is None else start + timeout
        usual = self._usual_waits.after(self._last_kind)
        plan = usual.plan()
        while True:
            if self._framed.is_readable and self._read() and self._inbox:
                usual.came(time.monotonic() - start)
                return self._next_message()
            if self._is_closed or self._fault is not None:
                self._check_open()
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                self._check_silence()
                raise MessageLate(f"{self._peer} sent nothing within {timeout} s.")
            early = start + plan.sleep_seconds - now
            if early <= 0 and now < start + plan.look_until_seconds:
                # Whoever computes on this core goes first.
                os.sched_yield()
                continue
            self._check_silence()
            self._give_credit(is_idle=True)
            tick = self._next_look(deadline)
            if not 0 < early < tick:
                self._framed.wait(select.POLLIN, tick)
            elif not self._framed.sleep(early):
                usual.overslept(time.monotonic() - now - early)

    def _next_message(self) -> Message:
        message = self._inbox.popleft()
        self._last_kind = message.kind
        return message

    def _read(self) -> bool:
        """Read once and deal with what came; whether anything came."""
        if self._fault is not None or self._is_closed:
            return False
        try:
            frames = self._framed.read()
        except BlockingIOError:
            return False
        except (EOFError, OSError) as error:
            self._break(self._lost(error))
            return False
        except ChannelError as error:
            self._break(type(error)(f"{self._peer}: {error}"))
            return False
        self._silence.heard(time.monotonic())
        self._take(frames)
        return True

    def _take(self, frames: Sequence[Frame]) -> None:
        try:
            for frame in frames:
                self._take_one(frame)
        except ChannelError as error:
            self._break(type(error)(f"{self._peer}: {error}"))

    def _take_one(self, frame: Frame) -> None:
        match frame.prefix.type:
            case FrameType.MESSAGE:
                self._inbox.append(self._to_message(frame))
                self._peer_working_seconds = 0.0
            case FrameType.BEAT:
                self._peer_working_seconds = max(0.0, read_beat(frame).working_seconds)
            case FrameType.CREDIT:
                self._outgoing.credit(read_credit(frame).offsets)
            case FrameType.GOODBYE:
                self._break(ChannelClosed(f"{self._peer} closed the connection."))
            case FrameType.HELLO:
                raise DamagedMessage("A second hello came.")

    def _to_message(self, frame: Frame) -> Message:
        loans = self._loans
        head = read_message_head(frame, 0 if loans is None else loans.size)
        if head.credit:
            self._outgoing.credit(head.credit)
        size = frame.prefix.body_bytes if head.arena_offset is None else head.arena_bytes
        layout = self._layouts.read(head.kind, head.arrays, size)
        if head.arena_offset is None or loans is None:
            data = _NOTHING_READ if frame.body is None else frame.body
            data.flags.writeable = False
            return Message(head.kind, head.fields, layout.views(data))
        arrays = layout.views(loans.lend(head.arena_offset, head.arena_bytes))
        if head.unfinished:
            await_written(self._framed, loans.heard, head, self._timing.silent_seconds)
        return Message(head.kind, head.fields, arrays)

    def _give_credit(self, *, is_idle: bool) -> None:
        """Tell the other side which parts of its memory nobody here refers to any more."""
        if not self._outgoing.owes_credit(is_idle=is_idle):
            return
        if not self._sending.acquire(blocking=False):
            return
        try:
            if self._framed.flush():
                self._put_credit()
                self._framed.flush()
        except OSError:
            # Reading finds out, and after what still lies there to be read.
            return
        finally:
            self._sending.release()

    def _put_credit(self) -> None:
        if credit := self._outgoing.take_credit():
            self._framed.put(FrameType.CREDIT, Credit(credit))

    def beat(self) -> bool:
        """Say that this process is alive, unless somebody is sending; False when it is over."""
        if self.is_closed:
            return False
        if self._sending.acquire(blocking=False):
            try:
                # Beats that nobody reads must not fill the room of messages.
                if self._framed.flush() and self._framed.waiting_bytes < 16 << 10:
                    working = self._own_pulse.working_seconds(time.monotonic())
                    self._framed.put(FrameType.BEAT, Beat(working))
                    self._put_credit()
                    self._framed.flush()
            except (OSError, ValueError):
                return False
            finally:
                self._sending.release()
        return True

    def _next_look(self, deadline: float | None) -> float:
        """How long to sleep at most; several times within the limit of silence."""
        tick = min(self._timing.beat_seconds, self._timing.silent_seconds / 4)
        return tick if deadline is None else min(tick, deadline - time.monotonic())

    def _check_silence(self) -> None:
        if self._silence.observe(time.monotonic()):
            error = PeerSilent(
                f"{self._peer} has not even beaten for {self._timing.silent_seconds} s: its process"
                f" is stopped, its host frozen or the network cut."
            )
            raise self._broken(error)

    def _lost(self, error: Exception) -> PeerLost:
        inside = " in the middle of a message" if self._framed.is_inside_frame else ""
        reason = str(error) or "the connection ended"
        return PeerLost(f"{self._peer} is gone{inside}: {reason}.")

    def _break(self, error: ChannelError) -> None:
        if self._fault is None:
            self._fault = error

    def _broken(self, error: ChannelError) -> ChannelError:
        self._break(error)
        return self._fault or error

    def _check_open(self) -> None:
        if self._is_closed:
            raise ChannelClosed(f"The connection to {self._peer} was closed on this side.")
        if self._fault is not None:
            # A new one each time: a raised exception collects tracebacks.
            raise type(self._fault)(str(self._fault))

    def close(self) -> None:
        """See `Channel.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._sending.acquire(timeout=self._timing.linger_seconds):
            with contextlib.suppress(OSError, BanyanError):
                self._say_goodbye()
            self._sending.release()
        self._framed.end_stream(socket.SHUT_RDWR)
        self._heart.stop()
        with self._receiving:
            self._inbox.clear()
            self._framed.close_when_taken(self._timing.linger_seconds)
        self._loans = None
        self._outgoing.release()

    def _say_goodbye(self) -> None:
        if self._fault is not None:
            return
        deadline = time.monotonic() + self._timing.linger_seconds
        while not self._framed.flush() and time.monotonic() < deadline:
            self._framed.wait(select.POLLOUT, deadline - time.monotonic())
        self._framed.put(FrameType.GOODBYE, None)
        self._framed.flush()
