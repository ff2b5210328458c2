"""`banyan compile`: compile a model ahead of its first start, and show what came of it."""

from collections import Counter
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from banyan.cli.compile_report import print_rows
from banyan.cli.terminal import loading_view, output, side
from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.dump import PAGE, write_dump
from banyan.compiler.ir.graph import Graph
from banyan.compiler.report import CompileReport
from banyan.compiler.tuner.timeline import Timeline
from banyan.devices.discovery import find_device
from banyan.engine.starting.compiling import choose_dtype, model_graph
from banyan.engine.workbench.inspection import inspect_model
from banyan.foundation.settings import Settings
from banyan.models.loading import open_model

WIDTH = 110
"""Columns a table may take where the output is no terminal."""


def run_compile(
    model: str,
    *,
    device: str,
    dtype: str,
    details: bool,
    settings: Settings,
    dump: Path | None = None,
) -> None:
    """Compile the model's graph for a device into the cache and print the report.

    With `details` the model is loaded and run, and every kernel is listed with its time. `dump`
    names a directory for the graph after each pass, the program's text, and a page about its runs.

    Raises:
        BanyanError: the model, the device or the compiler cannot be used.
    """
    console = output()
    if not details and dump is None:
        print_rows(console, _compile(model, device, dtype, settings).rows())
        return
    with loading_view(side()) as view:
        seen = inspect_model(
            model, device=device, dtype=dtype, settings=settings, progress=view.show
        )
    print_rows(console, seen.report.rows())
    if details:
        print_operations(console, seen.captured)
        for timeline in seen.timelines:
            print_timeline(console, timeline)
    if dump is not None:
        write_dump(dump, seen.captured, seen.program, seen.report, seen.timelines)
        console.print(f"Written: open [bold]{escape(str(dump / PAGE))}[/bold]")


def _compile(model: str, device: str, dtype: str, settings: Settings) -> CompileReport:
    with loading_view(side()) as view:
        view.show("Opening the model")
        directory = open_model(model, offline=settings.offline)
        view.show("Capturing the graph")
        chosen = choose_dtype(dtype, directory.configuration.checkpoint_dtype)
        graph = model_graph(directory, chosen, settings)
        view.show("Compiling")
        with closing(find_device(device, settings=settings)) as opened:
            options = CompileOptions(
                cache_directory=settings.cache_directory,
                compiler_command=settings.compiler_command,
            )
            return compile_graph(graph, device=opened, options=options).report


def print_operations(console: Console, graph: Graph) -> None:
    """Print how often each operation was captured, and how many of them our kernels compute."""
    nodes = [node for node in graph.nodes() if node.op not in {"input", "get"}]
    outside = Counter(str(node.attr("target")) for node in nodes if node.op == "extern")
    inside = Counter(node.op for node in nodes if node.op != "extern")
    table = Table("operation", "ours", "extern", title="Captured operations", box=None)
    for operation, count in inside.most_common():
        table.add_row(operation, str(count), "")
    for operation, count in outside.most_common():
        table.add_row(escape(operation), "", str(count))
    console.print(table, width=max(console.width, WIDTH))


def print_timeline(console: Console, timeline: Timeline) -> None:
    """Print what each kernel of a run did, and the least time the device could do it in."""
    names = ("kernel", "runs", "MB", "GFLOP", "least ms", "ms", "roofline", "bound by")
    title = f"{timeline.title}: {timeline.seconds * 1e3:.2f} ms"
    table = Table(*names, title=title, title_justify="left", box=None)
    for column in table.columns:
        column.justify = "left" if column.header in {"kernel", "bound by"} else "right"
        column.no_wrap = True
    for group in timeline.groups():
        share = group.floor_seconds / group.seconds if group.seconds > 0 else 0.0
        table.add_row(
            group.name,
            str(group.launches),
            f"{group.num_bytes / 1e6:.2f}",
            f"{group.operations / 1e9:.3f}",
            f"{group.floor_seconds * 1e3:.3f}",
            f"{group.seconds * 1e3:.3f}",
            f"{share:.0%}",
            group.bound,
        )
    console.print(table, width=max(console.width, WIDTH))
