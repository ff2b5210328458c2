"""Waiting for several channels at once.

Owns `wait_for_any`. A worker with several neighbours, or whoever drives many workers, asks here
which channel to receive from.
"""

import select
from collections.abc import Sequence
from typing import TypeVar

from banyan.distributed.channel import Channel

_Kind = TypeVar("_Kind", bound=Channel)


def wait_for_any(channels: Sequence[_Kind], timeout: float | None = None) -> tuple[_Kind, ...]:
    """The channels from which `receive` may have a message or an error now, in their order.

    It may name a channel where only a beat came: receive from it with `timeout=0`, and take
    `MessageLate` for "not yet". It does not judge silence; a caller that waits long does so in
    turns of a second and calls `receive(timeout=0)` on all of them, which does.

    Args:
        channels: open ones; a closed one counts as ready, since `receive` says so at once.
        timeout: seconds; None: for ever. An empty answer means that the time is over.
    """
    ready = tuple(channel for channel in channels if channel.has_message or channel.is_closed)
    if ready or not channels:
        return ready
    poller = select.poll()
    by_descriptor = {channel.fileno(): channel for channel in channels}
    for descriptor in by_descriptor:
        poller.register(descriptor, select.POLLIN)
    events = poller.poll(None if timeout is None else max(0.0, timeout) * 1000)
    readable = {descriptor for descriptor, _ in events}
    return tuple(channel for channel in channels if channel.fileno() in readable)
