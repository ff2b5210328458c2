"""`banyan swap`: replace the model of a running server, and wait until the new one serves."""
# ruff: noqa: PLC0415  (a command imports its work when it runs)

from pathlib import Path
from typing import Annotated

import typer

LONGEST_LOAD_SECONDS = 24 * 3600.0
"""A large model on a slow disk loads for long, and the server is silent meanwhile."""


def swap(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A model directory or hub id; the present one, loaded anew, by default.",
        ),
    ] = None,
    url: Annotated[
        str, typer.Option(help="A server that was started with --allow-swap.")
    ] = "http://127.0.0.1:8000",
) -> None:
    """Replace the [bold]model[/bold] of a running server without dropping a request."""
    from banyan.cli.terminal import loading_view, output, side
    from banyan.client import Client

    client = Client(url, timeout_seconds=LONGEST_LOAD_SECONDS)
    with loading_view(side()) as view:
        view.show("The new model is loading; the old one answers meanwhile")
        swapped = client.swap(None if model is None else place_of(model))
    shown = "the same model, loaded anew" if model is None else model
    output().print(
        f"{client.url} now serves {shown}: {swapped.kind}, {swapped.max_model_len} tokens",
        markup=False,
    )


def place_of(model: str) -> str:
    """Name a model so that a server in another folder finds it; hub ids stay as they are.

    A link is not followed: the server follows it again when it loads the model anew.
    """
    from banyan.cli.shipped import SHIPPED_MODEL, find_model

    path = Path(model)
    if model != SHIPPED_MODEL and path.is_dir():
        return str(path.absolute())
    return find_model(model)
