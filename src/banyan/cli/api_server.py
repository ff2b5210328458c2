"""The web server of `banyan serve`, apart from it because its framework takes time to import."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from banyan.cli.api_options import ApiOptions
from banyan.cli.engine_choice import ServedEngine
from banyan.cli.served_text import ServedText
from banyan.cli.swapping import ModelSwitch
from banyan.engine.process.client import EngineClient
from banyan.gateway.app import create_app
from banyan.gateway.parsing.registry import choose_reasoning_parser, choose_tool_parser
from banyan.gateway.services import GatewaySettings, now_seconds
from banyan.gateway.swapping import swap_routes

if TYPE_CHECKING:
    from banyan.engine.process.device_care import DeviceCare, DeviceFacts
    from banyan.gateway.tracing import Tracing

# Streams are done by then; this is for the last bytes on their way.
_LAST_BYTES_SECONDS = 5


class ApiServer(uvicorn.Server):
    """A server that leaves signals to `stopping`, and the spans that it makes."""

    def __init__(self, config: uvicorn.Config, tracing: "Tracing | None") -> None:
        super().__init__(config)
        self._tracing = tracing

    def close_tracing(self) -> None:
        """Send the last spans; may wait for the network."""
        if self._tracing is not None:
            self._tracing.close()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal: a first one must let answers finish while /health is still served."""
        yield


def make_server(
    engine: ServedEngine,
    served: ServedText,
    *,
    name: str | None,
    max_body_bytes: int,
    switch: ModelSwitch | None,
    care: "DeviceCare | None",
    api: ApiOptions,
) -> ApiServer:
    """Build the API and the server around it; nothing runs yet.

    Args:
        engine: answers.
        served: how the model reads text.
        name: what clients call the model; None takes its own name.
        max_body_bytes: larger requests are refused.
        switch: replaces the model when somebody asks over HTTP; None lets nobody.
        care: moves the model between devices when somebody asks over HTTP; None lets nobody.
        api: choices that concern the API alone.
    """
    settings = GatewaySettings(
        model_name=name or served.name,
        created=now_seconds(),
        max_body_bytes=max_body_bytes,
        sampling_defaults=served.sampling_defaults,
        classifier=served.classifier,
        may_change_adapters=engine.settings.options.enable_lora,
        trust_request_chat_template=api.trust_request_chat_template,
        metric_names=api.metric_names,
        image_limits=api.image_limits,
        tool_call_parser=choose_tool_parser(api.tool_call_parser, served.chat_template),
        reasoning_parser=choose_reasoning_parser(api.reasoning_parser, served.chat_template),
    )
    tracing = api.open_tracing(model_name=settings.model_name)
    app = create_app(engine, served.text, settings, tracing=tracing)
    if switch is not None:
        app.include_router(swap_routes(switch.swap))
    if care is not None and isinstance(engine, EngineClient):
        # Pulls in the planner, which a server of one device does without.
        from banyan.gateway.devices import device_routes  # noqa: PLC0415

        app.include_router(device_routes(_Desk(engine, care)))
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_LAST_BYTES_SECONDS,
    )
    return ApiServer(config, tracing)


@dataclass(frozen=True, slots=True)
class _Desk:
    """The devices of one engine, as the API asks about them."""

    engine: EngineClient
    care: "DeviceCare"

    def facts(self) -> "Sequence[DeviceFacts]":
        return self.care.facts()

    def process_ids(self) -> "Sequence[int | None]":
        return [self.engine.answering_process_id]

    async def drain(self, device: str) -> None:
        await self.care.drain(self.engine, device)

    async def undrain(self, device: str) -> None:
        await self.care.undrain(self.engine, device)
