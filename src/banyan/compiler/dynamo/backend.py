"""The backend that Dynamo finds under the name "banyan".

Dynamo gives a graph of the user's calls; attention in it becomes ours, AOTAutograd turns it into a
forward and a backward graph of ATen operations, and each of these becomes one program. What cannot
become one runs as PyTorch runs it, and a warning says which node stood in the way.
"""

import functools
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch._dynamo.backends.common import aot_autograd
from torch._guards import TracingContext
from torch.nn import functional

from banyan.compiler.capture.attention_operations import attend
from banyan.compiler.capture.traced import Traced, capture_traced
from banyan.compiler.compile import compile_graph
from banyan.compiler.compiled import CompiledProgram
from banyan.compiler.dynamo.calling import TracedFunction
from banyan.compiler.dynamo.decompositions import chosen_decompositions
from banyan.compiler.ir.graph import Graph
from banyan.compiler.options import CompileOptions
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.foundation.errors import BanyanError, CompilationFailed, CompilerMissing, InputError
from banyan.foundation.settings import load_settings

Function = Callable[..., Any]


class BanyanFallback(UserWarning):
    """A part of the model runs as PyTorch runs it, because this compiler cannot say it."""


def banyan(
    module: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Function:
    """Compile what Dynamo traced: `torch.compile(model, backend="banyan")`.

    Args:
        module: the traced calls.
        example_inputs: fake arguments.
        options: "pack_weights" (default True): whether inference keeps parameters in the layout
            of its kernels. They are read again when their version counter changes; code that
            writes through `parameter.data` does not change it and needs False.
        mode: of `torch.compile`; "default" is the only one.

    Raises:
        InputError: an unknown option or mode.
    """
    wanted = dict(options or {})
    pack = wanted.pop("pack_weights", True)
    if wanted or mode not in (None, "default"):
        asked = f"option {next(iter(wanted))!r}" if wanted else f"mode {mode!r}"
        raise InputError(f"backend banyan has no {asked}; known is the option 'pack_weights'")
    _use_our_attention(module)
    compiler = aot_autograd(
        fw_compiler=functools.partial(_compile, kind="forward", pack=False),
        bw_compiler=functools.partial(_compile, kind="backward", pack=False),
        inference_compiler=functools.partial(_compile, kind="inference", pack=pack),
        partition_fn=min_cut_rematerialization_partition,
        decompositions=chosen_decompositions(),
    )
    compiled: Function = compiler(module, example_inputs)
    return compiled


def _use_our_attention(module: torch.fx.GraphModule) -> None:
    for part in module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:
                if node.target is functional.scaled_dot_product_attention:
                    node.target = attend
            part.recompile()


def _compile(
    module: torch.fx.GraphModule, example_inputs: Sequence[Any], *, kind: str, pack: bool
) -> Function:
    static = _static_places() if pack else frozenset()

    def capture(seen: Mapping[str, int]) -> Traced:
        return capture_traced(module, kind, static, seen)

    try:
        return TracedFunction(capture, _build)
    except (BanyanError, CompilerMissing, CompilationFailed) as error:
        warnings.warn(
            f"the {kind} graph runs in PyTorch, because banyan cannot compile it: {error}",
            BanyanFallback,
            stacklevel=2,
        )
        plain: Function = make_boxed_func(module.forward)
        return plain


def _static_places() -> frozenset[int]:
    """The arguments that are parameters or buffers and that the graph does not write to."""
    context = TracingContext.try_get()
    metadata = None if context is None else context.fw_metadata
    if metadata is None:
        return frozenset()
    places = metadata.static_input_indices or ()
    return frozenset(i for i in places if not metadata.input_info[i].mutates_data)


def _build(graph: Graph) -> CompiledProgram:
    settings = load_settings(os.environ)
    options = CompileOptions(settings.cache_directory, settings.compiler_command)
    program = compile_graph(graph, device=_device(), target="cpp", options=options)
    if not isinstance(program, CompiledProgram):
        raise InputError(f"target cpp gave {type(program).__name__}")
    return program


@functools.cache
def _device() -> Device:
    """The CPU, shared by every program of the process; its threads end with the process."""
    return find_device("cpu", settings=load_settings(os.environ))
