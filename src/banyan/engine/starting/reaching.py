"""Whether a device of a plan can be used now, asked from a process that has none open.

A worker of another host is connected to; a device of this one is opened by a process of its own,
because what opens a chip keeps it, and may hang.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from banyan.devices.discovery import find_device
from banyan.distributed.greeting import Identity
from banyan.distributed.opening import Conditions
from banyan.distributed.pulse import Timing
from banyan.distributed.secret import read_secret
from banyan.distributed.tcp import Address, connect_tcp
from banyan.engine.stages.addresses import INTERPRETER, PlaceAddress
from banyan.foundation.errors import BanyanError
from banyan.foundation.settings import load_settings

_OPENING_SECONDS = 30.0


def reach_by(
    addresses: Mapping[str, PlaceAddress], secret: Path | None
) -> Callable[[str, float], Awaitable[str | None]]:
    """Look for devices at these addresses.

    The function it gives takes a device and seconds in which a worker of another host has to
    answer, and says None, or in one sentence why the device cannot be used.
    """

    async def reach(place: str, seconds: float) -> str | None:
        address = addresses[place]
        if address.kind == "tcp":
            return await asyncio.to_thread(_reach_worker, place, address, secret, seconds)
        return await _reach_device(place, address.device)

    return reach


def _reach_worker(
    place: str, address: PlaceAddress, secret: Path | None, seconds: float
) -> str | None:
    if secret is None:
        return f"{place} is on another host, and plan_secret is not given"
    there = Address(address.host, address.port)
    timing = Timing(opening_seconds=seconds, silent_seconds=2.0)
    conditions = Conditions(Identity(f"who looks for {place}"), timing)
    try:
        connect_tcp(there, read_secret(secret), conditions).close()
    except BanyanError as error:
        return f"the worker of {place} cannot be used: {error}"
    return None


async def _reach_device(place: str, device: str) -> str | None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "banyan.engine.starting.reaching", device),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), _OPENING_SECONDS)
    except TimeoutError:
        return f"{place} does not open within {_OPENING_SECONDS:g} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return None if process.returncode == 0 else f"{place} cannot be opened: {said.decode().strip()}"


def try_device(device: str) -> int:
    """Open a device and close it; the exit code, with the reason on standard output."""
    name = "null" if device == INTERPRETER else device
    try:
        find_device(name, settings=load_settings(os.environ), num_threads=1).close()
    except BanyanError as error:
        print(error)  # noqa: T201  (whoever started the process reads it)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(try_device(sys.argv[1]))
