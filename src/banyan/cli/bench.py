"""The words of `banyan bench`; what it does is in `load`, imported when it runs."""
# ruff: noqa: PLC0415  (a command imports its work when it runs)

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from banyan.foundation.errors import InputError

bench = typer.Typer(help="Measure servers.", no_args_is_help=True)


@bench.callback()
def bench_command() -> None:
    """[bold]Measure[/bold] a server under load."""


@bench.command()
def serve(
    url: Annotated[str, typer.Option(help="Any OpenAI-compatible server.")] = (
        "http://127.0.0.1:8000"
    ),
    model: Annotated[str, typer.Option(help="The model's name there.")] = "seedling",
    mix: Annotated[str, typer.Option(help="sharegpt, conversation, long-prompt or fixed.")] = (
        "sharegpt"
    ),
    rate: Annotated[
        float, typer.Option(help="Requests in a second (Poisson); inf sends all at once.")
    ] = math.inf,
    num_prompts: Annotated[int, typer.Option(min=1, help="How many requests.")] = 100,
    max_concurrency: Annotated[
        int | None, typer.Option(min=1, help="Most requests under way; any number by default.")
    ] = None,
    input_len: Annotated[int, typer.Option(min=1, help="Prompt tokens of mix fixed.")] = 512,
    output_len: Annotated[int, typer.Option(min=1, help="Answer tokens of mix fixed.")] = 128,
    thinking_seconds: Annotated[
        float, typer.Option(min=0, help="Mean pause between the turns of a conversation.")
    ] = 3.0,
    seed: Annotated[int, typer.Option(help="The same seed asks the same.")] = 0,
    goal: Annotated[
        list[str] | None, typer.Option(help="Counts as good within: ttft:500, tpot:50, e2el:...")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask chat completions.")] = False,
    key: Annotated[str | None, typer.Option(help="API key of the server.")] = None,
    extra: Annotated[str | None, typer.Option(help="More fields of a request, as JSON.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all as JSON.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the times as an SVG file.")] = None,
) -> None:
    """Send a seeded [bold]load[/bold] to a server; times, throughput, goodput."""
    from banyan.cli.load.command import LoadOptions, run_load
    from banyan.cli.load.outcome import read_goals
    from banyan.cli.load.sending import Server
    from banyan.cli.load.workload import Lengths, Workload

    workload = Workload(
        mix=mix,
        num_requests=num_prompts,
        rate=rate,
        seed=seed,
        fixed=Lengths(input_len, output_len),
        thinking_seconds=thinking_seconds,
    )
    run_load(
        LoadOptions(
            server=Server(url=url, model=model, chat=chat, key=key, extra=_fields(extra)),
            workload=workload,
            max_concurrency=max_concurrency,
            goals=read_goals(goal or ()),
            json_path=json_path,
            picture_path=picture,
        )
    )


def _fields(text: str | None) -> dict[str, Any]:
    try:
        fields = json.loads(text or "{}")
    except ValueError as error:
        raise InputError(f"--extra is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InputError(f"--extra is {type(fields).__name__}; write a JSON object")
    return fields
