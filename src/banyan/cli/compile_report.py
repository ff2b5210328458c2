"""Shows what was compiled: how much of the graph, in which kernels, and what stayed outside."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape


def print_report(console: Console, reply: Mapping[str, Any]) -> None:
    """Print the reply of `GET /v1/banyan/report` in a few lines."""
    report = reply["report"]
    console.print(
        f"[bold]{escape(str(reply['model']))}[/bold]: {reply['kind']}, context of "
        f"{reply['max_model_len']} tokens"
    )
    if "compiled" not in report:
        console.print("[dim]A scripted model: nothing was compiled.[/dim]")
        return
    print_compiled(console, report["compiled"])
    console.print(
        f"Device {escape(str(report['device']))}, loaded in {report['load_seconds']:.1f} s"
    )


def print_compiled(console: Console, compiled: Mapping[str, Any]) -> None:
    """Print one compiled graph's coverage."""
    console.print(str(compiled))
