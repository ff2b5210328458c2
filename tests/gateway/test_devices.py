"""`/v1/admin/devices`: listed, drained, let in again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from banyan.engine.fake import FakeTokenizer
from banyan.engine.process.device_care import DeviceFacts
from banyan.foundation.errors import EngineStopped, RequestError
from banyan.gateway.app import create_app
from banyan.gateway.devices import device_routes
from banyan.gateway.services import GatewaySettings
from banyan.gateway.text import PromptText, plain_chat
from tests.gateway.scripted import ScriptedBackend


@dataclass
class Desk:
    """Two devices, of which a test drains one."""

    drained: set[str] = field(default_factory=set)

    def facts(self) -> Sequence[DeviceFacts]:
        return [
            DeviceFacts("cpu", "ready", is_used=True),
            DeviceFacts(
                "cpu#1",
                "drained" if "cpu#1" in self.drained else "lost",
                is_used=False,
                detail="the worker of cpu#1 is gone",
                slowdown=2.0,
            ),
        ]

    def process_ids(self) -> Sequence[int | None]:
        return [4711]

    async def drain(self, device: str) -> None:
        if device == "x":
            raise RequestError("there is no device 'x'", parameter="device")
        if device == "cpu":
            raise EngineStopped("the engine is loading; try again in a few seconds")
        self.drained.add(device)

    async def undrain(self, device: str) -> None:
        self.drained.remove(device)


def asked(desk: Desk, *calls: tuple[str, str, object]) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        settings = GatewaySettings(model_name="tiny", created=0)
        app = create_app(ScriptedBackend(), PromptText(FakeTokenizer(), plain_chat), settings)
        app.include_router(device_routes(desk))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [
                await client.request(method, path, json=body if body is not None else None)
                for method, path, body in calls
            ]

    return asyncio.run(ask())


DRAIN, UNDRAIN = "/v1/admin/devices/drain", "/v1/admin/devices/undrain"


def test_devices_are_listed_with_what_is_wrong_with_them() -> None:
    (reply,) = asked(Desk(), ("GET", "/v1/admin/devices", None))
    first, second = reply.json()["devices"]
    assert reply.json()["process_ids"] == [4711]
    assert first == {
        "name": "cpu",
        "state": "ready",
        "is_used": True,
        "detail": "",
        "slowdown": 1.0,
    }
    assert (second["state"], second["slowdown"]) == ("lost", 2.0)
    assert second["detail"] == "the worker of cpu#1 is gone"


def test_a_drain_answers_with_how_devices_are_then() -> None:
    replies = asked(
        Desk(), ("POST", DRAIN, {"device": "cpu#1"}), ("POST", UNDRAIN, {"device": "cpu#1"})
    )
    states = [[each["state"] for each in reply.json()["devices"]] for reply in replies]
    assert states == [["ready", "drained"], ["ready", "lost"]]


def test_what_cannot_be_drained_is_said_with_the_status_it_deserves() -> None:
    unknown, loading, nonsense = asked(
        Desk(),
        ("POST", DRAIN, {"device": "x"}),
        ("POST", DRAIN, {"device": "cpu"}),
        ("POST", DRAIN, {"chip": "cpu"}),
    )
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "device")
    assert loading.status_code == 503
    assert nonsense.status_code == 400
    assert "the body cannot be used" in nonsense.json()["error"]["message"]
