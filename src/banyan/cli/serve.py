"""`banyan serve`: the composition root, where tokenizer, engine and API are put together.

Owns the order of the start: the port first (a taken one is known at once), then the model's
files, then the API together with the engine process, so that `/health` tells of the loading.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from rich.console import Console

from banyan.cli.api_options import ApiOptions
from banyan.cli.terminal import loading_view, output, side
from banyan.engine.client import EngineClient
from banyan.engine.messages import FAKE_MODEL, EngineSettings, Loading
from banyan.engine.options import EngineOptions
from banyan.foundation.errors import EnvironmentProblem
from banyan.foundation.settings import Settings
from banyan.gateway.app import create_app
from banyan.gateway.backend import TextAndPairs
from banyan.gateway.parsing.registry import choose_reasoning_parser, choose_tool_parser
from banyan.gateway.services import GatewaySettings, now_seconds
from banyan.gateway.text import PromptText, plain_chat
from banyan.models.classifier import Classifier


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What a person asks of `banyan serve`.

    Attributes:
        model: a directory, a hub id, or "fake".
        port: 0 takes a free one.
        served_model_name: the name clients ask for; None takes the model's own last part.
        max_body_bytes: larger requests are refused.
        drain_seconds: how long running answers may take to finish after a stop was asked for.
        until_input_ends: stop when standard input closes, as it does when a parent dies.
        api: choices that concern the API alone.
    """

    model: str
    engine: EngineOptions
    host: str = "127.0.0.1"
    port: int = 8000
    served_model_name: str | None = None
    max_body_bytes: int = 16 * 2**20
    drain_seconds: int = 30
    until_input_ends: bool = False
    api: ApiOptions = field(default_factory=ApiOptions)


@dataclass(frozen=True, slots=True)
class ServedText:
    """What the API process knows of a model: where it is and how it reads text."""

    location: str
    name: str
    text: TextAndPairs
    sampling_defaults: dict[str, float]
    classifier: Classifier | None = None
    chat_template: str = ""


def run_server(options: ServeOptions, settings: Settings) -> None:
    """Serve until a signal asks to stop.

    Raises:
        BanyanError: the port is taken, or the model cannot be served; one sentence says why.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for name in ("httpx", "urllib3", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with bind(options.host, options.port) as listener:
        served = open_text(options.model, offline=settings.offline, task=options.engine.task)
        with _early_signals() as wish:
            asyncio.run(_serve(options, settings, served, listener, wish))


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket; raises `EnvironmentProblem` when that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        # The standard library adds the address to the system's words; a wrong host has others.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else str(error.strerror or error)
        raise EnvironmentProblem(
            f"cannot listen on {host}:{port} ({reason}); choose another with --port, "
            "or --port 0 for a free one"
        ) from error


def open_text(model: str, *, offline: bool, task: str = "auto") -> ServedText:
    """Read what the API process needs of a model: tokenizer, chat template, defaults."""
    if model == FAKE_MODEL:
        # Pulls in NumPy, which the API process otherwise does without.
        from banyan.engine.fake import FakeTokenizer  # noqa: PLC0415

        return ServedText(FAKE_MODEL, FAKE_MODEL, PromptText(FakeTokenizer(), plain_chat), {})
    from banyan.models.loading import open_model  # noqa: PLC0415

    directory = open_model(model, offline=offline, task=task)
    proposed = directory.generation
    defaults = {
        "temperature": proposed.temperature,
        "top_p": proposed.top_p,
        "top_k": proposed.top_k,
        "min_p": proposed.min_p,
        "repetition_penalty": proposed.repetition_penalty,
    }
    return ServedText(
        location=str(directory.path),
        name=Path(model).resolve().name if Path(model).is_dir() else model,
        text=PromptText(directory.tokenizer, directory.render_chat, directory.pairs()),
        sampling_defaults={name: value for name, value in defaults.items() if value is not None},
        classifier=directory.classifier,
        chat_template="" if directory.chat_template is None else directory.chat_template.source,
    )


async def _serve(
    options: ServeOptions,
    settings: Settings,
    served: ServedText,
    listener: socket.socket,
    wish: "StopWish",
) -> None:
    name = options.served_model_name or served.name
    url = address_of(listener)
    console = output()
    console.print(f"Listening on {url}")
    with loading_view(side()) as view:

        def show(loading: Loading) -> None:
            view.show(loading.step, loading.num_done, loading.num_total)

        engine = EngineClient(
            EngineSettings(
                model=served.location,
                options=options.engine,
                cache_directory=str(settings.cache_directory),
                compiler_command=settings.compiler_command,
                offline=settings.offline,
                packed_cache_bytes=settings.packed_cache_bytes,
            ),
            on_loading=show,
        )
        gateway = GatewaySettings(
            model_name=name,
            created=now_seconds(),
            max_body_bytes=options.max_body_bytes,
            sampling_defaults=served.sampling_defaults,
            classifier=served.classifier,
            trust_request_chat_template=options.api.trust_request_chat_template,
            metric_names=options.api.metric_names,
            tool_call_parser=choose_tool_parser(options.api.tool_call_parser, served.chat_template),
            reasoning_parser=choose_reasoning_parser(
                options.api.reasoning_parser, served.chat_template
            ),
        )
        tracing = options.api.open_tracing(model_name=name)
        app = create_app(engine, served.text, gateway, tracing=tracing)
        server = _server(app, drain_seconds=options.drain_seconds)
        wish.pass_on_to(server)
        if options.until_input_ends:
            _stop_when_input_ends(server)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        starting = asyncio.create_task(engine.start())
        await asyncio.wait({serving, starting}, return_when=asyncio.FIRST_COMPLETED)
    try:
        await _run_until_stopped(
            console, server, serving, starting, ready=f"Serving {name} at {url}"
        )
    finally:
        await engine.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)


async def _run_until_stopped(
    console: Console,
    server: uvicorn.Server,
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


def _server(app: Callable[..., Awaitable[None]], *, drain_seconds: int) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=drain_seconds,
    )
    return uvicorn.Server(config)


def _stop_when_input_ends(server: uvicorn.Server) -> None:
    loop = asyncio.get_running_loop()
    number = 0

    def read() -> None:
        if not os.read(number, 1024):
            loop.remove_reader(number)
            server.should_exit = True

    try:
        loop.add_reader(number, read)
    except OSError as error:  # closed, or a file: neither tells when it ends
        raise EnvironmentProblem(
            "--until-input-ends needs a pipe or a terminal as standard input; give one or leave "
            "the option out"
        ) from error


def address_of(listener: socket.socket) -> str:
    """Return the address a client uses; a server on all interfaces is reached by loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class StopWish:
    """A wish to stop that comes while nobody else listens to signals.

    Once it serves, uvicorn has handlers of its own: it drains its streams, then raises the signal
    once more for whoever handled it before; that is us, and we end by returning.
    """

    def __init__(self) -> None:
        self._is_made = False
        self._server: uvicorn.Server | None = None

    def hear(self, signal_number: int, frame: object) -> None:
        """Take a signal."""
        self._is_made = True
        if self._server is not None:
            self._server.should_exit = True

    def pass_on_to(self, server: uvicorn.Server) -> None:
        """Let a server know of the wish, whether it was made already or comes later."""
        self._server = server
        server.should_exit |= self._is_made


@contextmanager
def _early_signals() -> Iterator[StopWish]:
    """Take signals to stop until uvicorn does, and leave the handlers as they were."""
    wish = StopWish()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, wish.hear) for number in numbers]
    try:
        yield wish
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
