"""`banyan demo`: the main job from end to end, as a new user meets it.

Starts a server in a process of its own, asks three questions through the OpenAI SDK, shows the
devices, the compiler's report, the speed and the answers, and stops the server.
"""

import importlib.util
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from banyan.cli.compile_report import print_report
from banyan.cli.devices import print_findings
from banyan.cli.server_process import started_server
from banyan.cli.shipped import find_model
from banyan.cli.terminal import loading_view, output, side
from banyan.client import Client
from banyan.devices.discovery import known_probes, search_devices
from banyan.foundation.errors import EnvironmentProblem

if TYPE_CHECKING:
    from openai import OpenAI

QUESTIONS = (
    "What is Banyan?",
    "How do I start the server?",
    "Banyan 是什么？",
)
_MAX_TOKENS = 120


@dataclass(frozen=True, slots=True)
class Timing:
    """How fast one answer came.

    Attributes:
        first_token_seconds: from asking to the first text.
        tokens_per_second: after the first token.
        num_tokens: length of the answer.
    """

    first_token_seconds: float
    tokens_per_second: float
    num_tokens: int


def run_demo(model: str | None, *, threads: int | None) -> None:
    """Run the whole demo; raises `BanyanError` when any part of it fails."""
    if importlib.util.find_spec("openai") is None:
        raise EnvironmentProblem(
            "the demo speaks through the OpenAI SDK, which is not installed; "
            "pip install 'banyan-compute[demo]'"
        )
    location = find_model(model)
    console = output()
    console.rule("Devices", align="left")
    print_findings(console, search_devices(known_probes()))

    started = time.perf_counter()
    arguments = [location] if threads is None else [location, "--threads", str(threads)]
    console.rule("Server", align="left")
    with ExitStack() as stack:
        with loading_view(side()) as view:
            url = stack.enter_context(started_server(arguments, on_loading=view.show))
        console.print(f"Ready at {url} after {time.perf_counter() - started:.1f} s")
        client = Client(url)
        console.rule("Compiler", align="left")
        print_report(console, client.report())
        console.rule("Answers", align="left")
        _ask_all(console, url, client.models()[0].name)
    console.print("The server is stopped. Next: banyan serve, banyan chat, banyan --help")


def _ask_all(console: Console, url: str, model: str) -> None:
    # Takes a second to import, so it comes after the server was started.
    from openai import OpenAI  # noqa: PLC0415

    with OpenAI(base_url=f"{url}/v1", api_key="none needed") as client:
        for question in QUESTIONS:
            console.print(f"[bold green]>[/bold green] {question}")
            timing = _ask(console, client, model, question)
            console.print(
                f"[dim]first token after {timing.first_token_seconds * 1000:.0f} ms, then "
                f"{timing.tokens_per_second:.1f} tokens/s, {timing.num_tokens} tokens[/dim]\n"
            )


def _ask(console: Console, client: "OpenAI", model: str, question: str) -> Timing:
    """Stream one answer to the console and time it."""
    asked = time.perf_counter()
    first: float | None = None
    num_tokens = 0
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=_MAX_TOKENS,
        temperature=0.0,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        if chunk.usage is not None:
            num_tokens = chunk.usage.completion_tokens
        text = chunk.choices[0].delta.content if chunk.choices else None
        if text:
            first = first or time.perf_counter()
            console.print(text, end="", markup=False)
    console.print()
    ended = time.perf_counter()
    first = first or ended
    rate = (num_tokens - 1) / (ended - first) if num_tokens > 1 and ended > first else 0.0
    return Timing(first - asked, rate, num_tokens)
