"""`banyan serve`: the composition root, where tokenizer, engine and API are put together.

Owns the order of the start: the port first (a taken one is known at once), then the engine process,
and while it loads the model, the libraries and the tokenizer of the API; `/health` tells of the
loading. And of the end: no new requests, running answers to their end, then the processes.
"""

import asyncio
import logging
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console

from banyan.cli.api_options import ApiOptions
from banyan.cli.engine_choice import ServedEngine, open_engine
from banyan.cli.listening import address_of, bind
from banyan.cli.served_text import ServedText, locate, open_text
from banyan.cli.stopping import StopWish, heard_signals
from banyan.cli.swapping import ModelSwitch
from banyan.cli.terminal import loading_view, output, side
from banyan.engine.options import EngineOptions
from banyan.engine.process.client import EngineClient
from banyan.engine.process.messages import EngineSettings, Loading
from banyan.foundation.settings import Settings

if TYPE_CHECKING:
    from banyan.cli.api_server import ApiServer
    from banyan.cli.device_care import CareOptions
    from banyan.engine.process.device_care import DeviceCare


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What a person asks of `banyan serve`.

    Attributes:
        model: a directory, a hub id, or "fake".
        port: 0 takes a free one.
        served_model_name: the name clients ask for; None takes the model's own last part.
        max_body_bytes: larger requests are refused.
        drain_seconds: how long running answers may take to finish after a stop was asked for, or
            after their model was replaced.
        max_requests_per_caller: most requests of one caller at a time; 0 sets no limit.
        allow_swap: whether `POST /v1/admin/swap` replaces the model.
        care: how devices of the plan that come and go are planned for; None: they are not.
        until_input_ends: stop when standard input closes, as it does when a parent dies.
        keeps_standby: whether the next engine process is launched before it is needed.
        api: choices that concern the API alone.
    """

    model: str
    engine: EngineOptions
    host: str = "127.0.0.1"
    port: int = 8000
    served_model_name: str | None = None
    max_body_bytes: int = 16 * 2**20
    drain_seconds: int = 30
    max_requests_per_caller: int = 0
    allow_swap: bool = False
    care: "CareOptions | None" = None
    until_input_ends: bool = False
    keeps_standby: bool = False
    api: ApiOptions = field(default_factory=ApiOptions)


def run_server(options: ServeOptions, settings: Settings) -> None:
    """Serve until a signal asks to stop.

    Raises:
        BanyanError: the port is taken, or the model cannot be served; one sentence says why.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for name in ("httpx", "urllib3", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with bind(options.host, options.port) as listener, heard_signals() as wish:
        location = locate(options.model, offline=settings.offline)
        asyncio.run(_serve(options, settings, location, listener, wish))


async def _serve(
    options: ServeOptions,
    settings: Settings,
    location: str,
    listener: socket.socket,
    wish: StopWish,
) -> None:
    console, url = output(), address_of(listener)
    care = _open_care(options, settings, location)
    console.print(f"Listening on {url}")
    with loading_view(side()) as view:

        def show(loading: Loading) -> None:
            view.show(loading.step, loading.num_done, loading.num_total)

        engine = open_engine(
            engine_settings(options, settings, location),
            most_per_caller=options.max_requests_per_caller,
            on_loading=show,
            recovery=care,
            keeps_standby=options.keeps_standby,
        )
        try:
            wish.attach()
            # The engine's process loads while this one imports its libraries.
            starting = asyncio.create_task(engine.start())
            await asyncio.sleep(0)
            loop = asyncio.get_running_loop()
            opening = loop.run_in_executor(None, _open, options, settings, engine, care)
            served, server, switch = await opening
            wish.attach(on_reload=switch.reload)
            if options.until_input_ends:
                wish.hear_end_of_input()
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            stopping = asyncio.create_task(_stop_in_order(wish, engine, server, options))
            watching = asyncio.create_task(_watch(care, engine))
            await asyncio.wait({serving, starting}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await engine.close()
            raise
    name = options.served_model_name or served.name
    try:
        ready = f"Serving {name} at {url}"
        await _run_until_stopped(console, server, serving, starting, ready=ready)
    finally:
        stopping.cancel()
        watching.cancel()
        await engine.close()
        await asyncio.to_thread(server.close_tracing)


def _open_care(options: ServeOptions, settings: Settings, location: str) -> "DeviceCare | None":
    if options.care is None:
        return None
    from banyan.cli.device_care import open_care  # noqa: PLC0415

    return open_care(location, options.engine, options.care, settings)


async def _watch(care: "DeviceCare | None", engine: ServedEngine) -> None:
    if care is not None and isinstance(engine, EngineClient):
        await care.watch(engine)


def engine_settings(options: ServeOptions, settings: Settings, location: str) -> EngineSettings:
    """What the engine process is built from."""
    return EngineSettings(
        model=location,
        options=options.engine,
        cache_directory=str(settings.cache_directory),
        compiler_command=settings.compiler_command,
        offline=settings.offline,
        packed_cache_bytes=settings.packed_cache_bytes,
    )


def _open(
    options: ServeOptions, settings: Settings, engine: ServedEngine, care: "DeviceCare | None"
) -> "tuple[ServedText, ApiServer, ModelSwitch]":
    """Import the web framework, read the tokenizer and build the API; a thread's work."""
    from banyan.cli.api_server import make_server  # noqa: PLC0415

    served = open_text(
        options.model,
        offline=settings.offline,
        task=options.engine.task,
        max_image_tokens=options.engine.max_image_tokens,
    )
    switch = ModelSwitch(
        engine,
        served,
        model=options.model,
        drain_seconds=options.drain_seconds,
        offline=settings.offline,
    )
    server = make_server(
        engine,
        served,
        name=options.served_model_name,
        max_body_bytes=options.max_body_bytes,
        switch=switch if options.allow_swap else None,
        care=care if options.care is not None and options.care.allow_drain else None,
        api=options.api,
    )
    return served, server, switch


async def _stop_in_order(
    wish: StopWish, engine: ServedEngine, server: "ApiServer", options: ServeOptions
) -> None:
    """Once somebody asks to stop: take no more, finish what runs, end; at once when they insist."""
    await wish.asked()
    engine.drain()
    finishing = asyncio.create_task(engine.drained(options.drain_seconds))
    insisting = asyncio.create_task(wish.insisted())
    await asyncio.wait({finishing, insisting}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    server.force_exit = insisting.done() or not (finishing.done() and finishing.result())
    finishing.cancel()
    insisting.cancel()


async def _run_until_stopped(
    console: Console,
    server: "ApiServer",
    serving: "asyncio.Task[None]",
    starting: "asyncio.Task[object]",
    *,
    ready: str,
) -> None:
    if starting.done() and starting.exception() is None:
        console.print(ready)
    else:
        # Either the engine cannot start or somebody wants to stop before it did.
        server.should_exit = True
        starting.cancel()
    await serving
    with suppress(asyncio.CancelledError):
        await starting
