"""What can be broken of a server, and how the server says that it is whole again."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.drilling.far_worker import FarWorker
from benchmarks.drilling.link import CuttableLink

_REPLY_SECONDS = 150.0


@dataclass(frozen=True, slots=True)
class Condition:
    """How a server is.

    Attributes:
        engine: the process that answers requests; 0 while none does.
        is_whole: every device has its layers.
        lost: the devices that cannot be used.
    """

    engine: int
    is_whole: bool
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """What can be broken.

    Attributes:
        url: of the server.
        far: the worker that listens.
        link: to it.
        client: to ask the server.
    """

    url: str
    far: FarWorker
    link: CuttableLink
    client: httpx.AsyncClient

    async def condition(self) -> Condition:
        """How the server is now."""
        reply = await self.client.get(f"{self.url}/v1/admin/devices", timeout=_REPLY_SECONDS)
        said = reply.raise_for_status().json()
        return Condition(
            engine=said["process_ids"][0] or 0,
            is_whole=all(each["is_used"] for each in said["devices"]),
            lost=tuple(each["name"] for each in said["devices"] if each["state"] == "lost"),
        )

    async def take_back(self, device: str) -> None:
        """Tell the server that a lost device is mended, as an operator does."""
        await self.client.post(
            f"{self.url}/v1/admin/devices/undrain",
            json={"device": device},
            timeout=_REPLY_SECONDS,
        )


def children_of(process_id: int) -> list[int]:
    """The children that are alive, whichever thread started them."""
    found = []
    for task in Path(f"/proc/{process_id}/task").glob("*"):
        with suppress(OSError):
            found += [int(number) for number in (task / "children").read_text().split()]
    return sorted(found)


def workers_of(engine: int) -> list[int]:
    """The processes that an engine has for its plan; not what compiles for it."""
    return [child for child in children_of(engine) if b"stage_worker" in _command_of(child)]


def _command_of(process_id: int) -> bytes:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_bytes()
    except OSError:
        return b""
