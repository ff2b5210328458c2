"""Options that several commands share."""

from typing import Annotated

import typer

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL", help="A model directory or hub id; the shipped 'seedling' by default."
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="See 'banyan devices'.")]
DtypeOption = Annotated[
    str, typer.Option("--dtype", help="float32, bfloat16, or auto: the checkpoint's own.")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads; one per core by default.")
]
ActivationOption = Annotated[
    str | None,
    typer.Option("--activation", help="Inputs of quantised layers: plain, or int8."),
]
