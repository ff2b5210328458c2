"""What `banyan plan` takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from banyan.cli.option_types import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanArguments:
    """One field for each option, in the order of the help."""

    model: Model = None
    devices: Annotated[
        Path, typer.Option("--devices", metavar="FILE", help="The inventory: devices and links.")
    ]
    workload: Annotated[
        str,
        typer.Option(help="Tokens of a request: prompt=512,answer=128; also rate=10/s,shared=50%."),
    ] = "prompt=512,answer=128"
    goal: Annotated[str, typer.Option(help="Most time: tpot=50ms,ttft=2s; either or both.")] = ""
    prices: Annotated[
        Path | None,
        typer.Option("--prices", metavar="FILE", help="Money for an hour of each kind of device."),
    ] = None
    objective: Annotated[str, typer.Option(help="What is best: throughput, cost or energy.")] = (
        "throughput"
    )
    weights: Annotated[
        str, typer.Option(help="Dtype of the layers: bfloat16, int8, int4, ...; auto: as stored.")
    ] = "auto"
    kv_cache: Annotated[
        str, typer.Option("--kv-cache", help="Dtype of keys and values; auto: as computed.")
    ] = "auto"
    train: Annotated[
        str | None,
        typer.Option(help="Plan training instead: batch=512,sequence=4096; also recompute=yes."),
    ] = None
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the plan as TOML.")
    ] = None
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Draw the plan as a page.")
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
