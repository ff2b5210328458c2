"""`/v1/admin/devices`: how the devices of a plan are, and taking one out for maintenance.

Only there when the operator asks.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from banyan.engine.process.device_care import DeviceFacts
from banyan.gateway.body import read_body
from banyan.gateway.errors import refuse

_LIMIT_BYTES = 65536


class DeviceDesk(Protocol):
    """What the routes ask about devices."""

    def process_ids(self) -> Sequence[int | None]:
        """The engine process that answers now, of each replica; None for one without."""
        ...

    def facts(self) -> Sequence[DeviceFacts]:
        """How every device is."""
        ...

    async def drain(self, device: str) -> None:
        """Move all work off a device.

        Raises:
            RequestError: there is none of this name, or the others have no room.
            EngineStopped: the engine is not there now.
        """
        ...

    async def undrain(self, device: str) -> None:
        """Let it work again, or look for one that is lost; raises as `drain`."""
        ...


class DeviceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which device."""

    device: str


class DevicesReply(msgspec.Struct, frozen=True):
    """All devices of the inventory.

    Attributes:
        devices: how each is.
        process_ids: of the engines that answer now, one for each replica; null for one that does
            not.
    """

    devices: tuple[DeviceFacts, ...]
    process_ids: tuple[int | None, ...]


def device_routes(desk: DeviceDesk) -> APIRouter:
    """Build the router; a drain is answered when nothing runs on the device any more."""
    router = APIRouter()

    @router.get("/v1/admin/devices")
    async def list_devices() -> Response:
        return _listed(desk)

    @router.post("/v1/admin/devices/drain")
    async def drain(request: Request) -> Response:
        await desk.drain(await _asked(request))
        return _listed(desk)

    @router.post("/v1/admin/devices/undrain")
    async def undrain(request: Request) -> Response:
        await desk.undrain(await _asked(request))
        return _listed(desk)

    return router


async def _asked(request: Request) -> str:
    body = await read_body(request, limit_bytes=_LIMIT_BYTES)
    try:
        return msgspec.json.decode(body, type=DeviceRequest).device
    except msgspec.DecodeError as error:
        raise refuse(f"the body cannot be used: {error}", code="invalid_json") from error


def _listed(desk: DeviceDesk) -> Response:
    payload = msgspec.json.encode(DevicesReply(tuple(desk.facts()), tuple(desk.process_ids())))
    return Response(payload, media_type="application/json")
