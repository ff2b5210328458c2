"""The passes in order, with the rules of the representation checked after each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.verify import verify
from banyan.compiler.passes.canonical import canonical
from banyan.compiler.passes.expand_attention import expand_attention
from banyan.compiler.passes.expand_quantized import expand_quantized
from banyan.compiler.passes.expand_windows import expand_windows
from banyan.compiler.passes.flatten_rows import flatten_rows
from banyan.compiler.passes.fold_scales import fold_scales
from banyan.compiler.passes.merge_linears import merge_linears
from banyan.compiler.passes.pack_products import pack_products
from banyan.compiler.passes.pack_quantized import pack_quantized
from banyan.compiler.passes.pack_weights import pack_weights
from banyan.compiler.passes.simplify import simplify
from banyan.compiler.passes.tile import tile
from banyan.compiler.tiling.options import TileOptions


@dataclass(frozen=True, slots=True)
class Pass:
    """A named pure function from graph to graph."""

    name: str
    run: Callable[[Graph], Graph]


def passes(options: TileOptions) -> tuple[Pass, ...]:
    """All passes in the order they run."""
    kept = options.quantized
    packing: tuple[Pass, ...] = ()
    packing_quantized: tuple[Pass, ...] = ()
    if options.packing:
        packing = (
            Pass("merge_linears", merge_linears),
            Pass("pack_weights", pack_weights),
            Pass("pack_products", pack_products),
            Pass("expand_windows", expand_windows),
        )
        packing_quantized = (Pass("pack_quantized", lambda graph: pack_quantized(graph, kept)),)
    written_out = kept if not options.packing else frozenset[str]()
    early = () if options.packing else (Pass("expand_windows", expand_windows),)
    return (
        Pass("simplify", simplify),
        Pass("fold_scales", fold_scales),
        Pass("expand_attention", lambda graph: expand_attention(graph, keep_long=options.packing)),
        *early,
        *packing_quantized,
        Pass("expand_quantized", lambda graph: expand_quantized(graph, written_out)),
        Pass("canonical", canonical),
        Pass("flatten_rows", flatten_rows),
        *packing,
        Pass("tile", lambda graph: tile(graph, options)),
    )


def stages(graph: Graph, options: TileOptions | None = None) -> Iterator[tuple[str, Graph]]:
    """The graph after each pass, the captured one first."""
    yield "capture", verify(graph)
    for step in passes(options or TileOptions()):
        graph = verify(step.run(graph))
        yield step.name, graph


def lower(graph: Graph, options: TileOptions | None = None) -> Graph:
    """From a captured graph to one of kernels, views and calls to the framework only.

    Raises:
        GraphError: a pass broke a rule of the representation, or the graph did.
    """
    for _, lowered in stages(graph, options):
        graph = lowered
    return graph
