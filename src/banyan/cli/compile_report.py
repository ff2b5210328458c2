"""Shows what was compiled: how much of the graph, in which kernels, and what stayed outside."""

from collections.abc import Iterable, Mapping
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
    if "summary" not in report:
        console.print("[dim]A scripted model: nothing was compiled.[/dim]")
        return
    print_rows(console, report["summary"])
    console.print(
        f"Device {escape(str(report['device']))}, loaded in {report['load_seconds']:.1f} s"
    )


def print_rows(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    """Print label and text of each row, texts below each other."""
    found = list(rows)
    width = max((len(label) for label, _ in found), default=0)
    for label, text in found:
        console.print(f"  [dim]{escape(label):<{width}}[/dim]  {escape(text)}")
