"""`banyan drain`: move a running server off a device, or let the device work again."""
# ruff: noqa: PLC0415  (a command imports its work when it runs)

from typing import Annotated

import typer

from banyan.cli.swap import LONGEST_LOAD_SECONDS


def drain(
    device: Annotated[
        str | None,
        typer.Argument(metavar="DEVICE", help="Its name in the inventory; lists all by default."),
    ] = None,
    back: Annotated[
        bool,
        typer.Option(
            "--back", help="Let the device work again instead; one that is lost is looked for."
        ),
    ] = False,
    url: Annotated[
        str, typer.Option(help="A server that was started with --allow-drain.")
    ] = "http://127.0.0.1:8000",
) -> None:
    """Move the work of a running server off a [bold]device[/bold] without dropping a request."""
    from banyan.cli.terminal import loading_view, output, side
    from banyan.client import Client

    client = Client(url, timeout_seconds=LONGEST_LOAD_SECONDS)
    if device is None:
        devices = client.devices()
    else:
        with loading_view(side()) as view:
            view.show(f"The model moves {'back to' if back else 'off'} {device}")
            devices = client.undrain(device) if back else client.drain(device)
    for each in devices:
        doing = "in use" if each.is_used else "idle"
        slow = f", {each.slowdown:.3g} times slower than planned" if each.slowdown != 1.0 else ""
        why = f": {each.detail}" if each.detail else ""
        output().print(f"{each.name}: {each.state}, {doing}{slow}{why}", markup=False)
