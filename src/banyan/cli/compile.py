"""`banyan compile`: compile a model ahead of its first start, and show what came of it."""

from collections import Counter
from contextlib import closing

from rich.console import Console
from rich.table import Table

from banyan.cli.compile_report import print_rows
from banyan.cli.terminal import loading_view, output, side
from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.ir.graph import Graph
from banyan.compiler.passes.pipeline import lower
from banyan.devices.discovery import find_device
from banyan.engine.loading import choose_dtype
from banyan.foundation.settings import Settings
from banyan.models.configuration import EncoderConfiguration
from banyan.models.loading import ModelDirectory, open_model
from banyan.models.step_graph import decoder_step_graph, encoder_graph


def run_compile(model: str, *, device: str, dtype: str, details: bool, settings: Settings) -> None:
    """Compile the model's graph for a device into the cache and print the report.

    Raises:
        BanyanError: the model, the device or the compiler cannot be used.
    """
    console = output()
    with loading_view(side()) as view:
        view.show("Opening the model")
        directory = open_model(model, offline=settings.offline)
        view.show("Capturing the graph")
        graph = model_graph(directory, dtype, settings)
        view.show("Compiling")
        with closing(find_device(device, settings=settings)) as opened:
            options = CompileOptions(
                cache_directory=settings.cache_directory,
                compiler_command=settings.compiler_command,
            )
            report = compile_graph(graph, device=opened, options=options).report
    print_rows(console, report.rows())
    if details:
        print_operations(console, "Captured operations", graph)
        print_operations(console, "After all passes", lower(graph))


def model_graph(directory: ModelDirectory, dtype: str, settings: Settings) -> Graph:
    """Return the graph that serves a model: a decoder's step, or an encoder."""
    configuration = directory.configuration
    chosen = choose_dtype(dtype, configuration.checkpoint_dtype)
    cache = settings.cache_directory
    if isinstance(configuration, EncoderConfiguration):
        return encoder_graph(configuration, dtype=chosen, cache_directory=cache)
    return decoder_step_graph(configuration, dtype=chosen, cache_directory=cache)


def print_operations(console: Console, title: str, graph: Graph) -> None:
    """Print how often each operation is in a graph, the most frequent first."""
    table = Table("operation", "count", title=title, title_justify="left", box=None)
    for operation, count in Counter(node.op for node in graph.nodes()).most_common():
        table.add_row(operation, str(count))
    console.print(table)
