"""Print one small module at every stage of the compiler, for the page "Life of a graph".

Everything comes from the compiler itself. The instruction set is fixed, so that the text is the
same on every machine.
"""

import inspect
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import cast

import torch
from torch import Tensor, nn

from banyan.compiler.capture.export import capture_module
from banyan.compiler.ir.graph import Graph, Kernel
from banyan.compiler.ir.text import print_graph
from banyan.compiler.ir.text import print_kernel as print_tiles
from banyan.compiler.passes.pipeline import stages
from banyan.compiler.targets.cpp.kernel import print_kernel

INSTRUCTION_SET = "avx512_bf16"

CAPTURE = (
    "`torch.export` traces the module once, on example arguments. Every ATen operation is "
    "rewritten by one rule into ours; what has no rule would become an `extern` node that calls "
    "PyTorch. The number of tokens stays a symbol, so the program serves every length. Arithmetic "
    "happens in the types that PyTorch computes in: the norm in float32, the matrix products in "
    "bfloat16."
)


class FeedForward(nn.Module):
    """The gated feed-forward block of a decoder, with its norm and residual."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.residual_scale = 1.0

    def forward(self, hidden: Tensor) -> Tensor:
        """Map hidden states [tokens, width] to hidden states."""
        normed = self.norm(hidden)
        gated = nn.functional.silu(self.gate(normed)) * self.up(normed)
        return cast("Tensor", hidden + self.residual_scale * self.down(gated))


def life_of_a_graph() -> str:
    """Write the generated part of the page."""
    parts = ["## The module", "", fenced(inspect.getsource(FeedForward), "python")]
    previous = ""
    graph = captured()
    for name, graph in stages(captured()):
        text = print_graph(graph).strip()
        parts += ["", f"## After `{name}`", "", words_of(name), ""]
        parts.append("Here it finds nothing to do." if text == previous else fenced(text, "text"))
        previous = text
    kernel = busiest_kernel(graph)
    parts += [
        "",
        f"## C++ of the kernel `{kernel.name}`",
        "",
        f"The body as it is printed for `{INSTRUCTION_SET}`: one call of a micro-kernel for the "
        "matrix product, then one loop with everything that follows it. `item` is the place in "
        "the grid, `scratch` belongs to the thread.",
        "",
        fenced(print_kernel(kernel, INSTRUCTION_SET).body, "cpp"),
    ]
    return "\n".join(parts)


def words_of(stage: str) -> str:
    """What a pass says of itself in the docstring of its module."""
    if stage == "capture":
        return CAPTURE
    return inspect.getdoc(import_module(f"banyan.compiler.passes.{stage}")) or ""


def captured() -> Graph:
    """Capture the module with a symbolic number of tokens; the weights do not matter."""
    with torch.device("meta"):
        module = FeedForward(64, 128).to(torch.bfloat16)
        example = torch.empty(3, 64, dtype=torch.bfloat16)
    tokens = torch.export.Dim("tokens", max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about itself
        return capture_module(
            module, (example,), name="feed_forward", dynamic_shapes=({0: tokens},)
        )


def kernels(graph: Graph) -> Iterator[Kernel]:
    """Find the kernels that a lowered graph calls, in order."""
    for node in graph.nodes():
        if node.op == "call":
            kernel = node.attr("kernel")
            assert isinstance(kernel, Kernel)
            yield kernel


def busiest_kernel(graph: Graph) -> Kernel:
    """Choose the matrix product that does most besides: the kernel with the longest text."""
    texts = {kernel: print_tiles(kernel) for kernel in kernels(graph)}
    return max((k for k in texts if "packed_dot" in texts[k]), key=lambda k: len(texts[k]))


def fenced(text: str, language: str) -> str:
    """Put text into a code block."""
    return f"```{language}\n{text.rstrip()}\n```"
