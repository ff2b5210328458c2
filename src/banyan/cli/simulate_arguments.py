"""What `banyan simulate` takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

_LOAD, _ENGINE, _TROUBLE = "Requests", "Engines", "Trouble"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateArguments:
    """One field for each option, in the order of the help."""

    plan: Annotated[
        Path, typer.Argument(metavar="PLAN", help="A plan, as 'banyan plan' writes it.")
    ]
    devices: Annotated[Path, typer.Option(help="The inventory of devices and links, TOML.")]
    prices: Annotated[Path | None, typer.Option(help="Prices of devices and energy, TOML.")] = None
    model: Annotated[
        str | None, typer.Option(help="The model's directory or hub id; the plan's by default.")
    ] = None
    goal: Annotated[str, typer.Option(help="What counts as good: tpot=50ms,ttft=2s.")] = ""
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Requests: JSON Lines or CSV with arrival, prompt_tokens, answer_tokens.",
            rich_help_panel=_LOAD,
        ),
    ] = None
    rate: Annotated[
        float | None,
        typer.Option(help="Requests a second (Poisson) instead of a trace.", rich_help_panel=_LOAD),
    ] = None
    seconds: Annotated[
        float, typer.Option(help="How long requests come.", rich_help_panel=_LOAD)
    ] = 600.0
    mix: Annotated[
        str, typer.Option(help="Their lengths: chat, documents, code.", rich_help_panel=_LOAD)
    ] = "chat"
    prompt_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Prompts of this length instead.", rich_help_panel=_LOAD),
    ] = None
    answer_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Answers of this length instead.", rich_help_panel=_LOAD),
    ] = None
    shared_prompt_share: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of a prompt in the prefix cache.", rich_help_panel=_LOAD
        ),
    ] = 0.0
    seed: Annotated[
        int, typer.Option(min=0, help="The same seed asks the same.", rich_help_panel=_LOAD)
    ] = 0
    max_num_seqs: Annotated[
        int,
        typer.Option(
            min=1, help="Sequences at once, where the plan says nothing.", rich_help_panel=_ENGINE
        ),
    ] = 64
    max_num_batched_tokens: Annotated[
        int, typer.Option(min=1, help="Most tokens of one step.", rich_help_panel=_ENGINE)
    ] = 1024
    memory_share: Annotated[
        float,
        typer.Option(
            min=0.01, max=1, help="Of devices, for weights and cache.", rich_help_panel=_ENGINE
        ),
    ] = 0.92
    routing: Annotated[
        str, typer.Option(help="least_loaded or round_robin.", rich_help_panel=_ENGINE)
    ] = "least_loaded"
    failures: Annotated[
        Path | None,
        typer.Option(
            help='JSON Lines: {"at": 60, "device": "a-0", "kind": "stop", "seconds": 30}.',
            rich_help_panel=_TROUBLE,
        ),
    ] = None
    mean_hours_between_failures: Annotated[
        float | None,
        typer.Option(help="Stop each device at random.", rich_help_panel=_TROUBLE),
    ] = None
    repair_seconds: Annotated[
        float, typer.Option(min=0, help="Until such a device is back.", rich_help_panel=_TROUBLE)
    ] = 600.0
    notice_seconds: Annotated[
        float,
        typer.Option(min=0, help="Until a loss is noticed.", rich_help_panel=_TROUBLE),
    ] = 2.0
    html: Annotated[
        Path | None, typer.Option(help="Write a page: latencies, utilisation of every device.")
    ] = None
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")] = (
        None
    )
