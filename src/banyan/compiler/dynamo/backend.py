"""The backend that Dynamo finds under the name "banyan".

Dynamo gives a graph of the user's calls; attention in it becomes ours, AOTAutograd turns it into a
forward and a backward graph of ATen operations, and each of these becomes one program. What cannot
become one runs as PyTorch runs it, and a warning says which node stood in the way.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._guards import TracingContext
from torch.autograd.graph import increment_version
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook

from banyan.compiler.capture.attention_operations import attend
from banyan.compiler.capture.traced import Traced, capture_traced
from banyan.compiler.compile import compile_graph
from banyan.compiler.compiled import CompiledProgram
from banyan.compiler.dynamo.calling import TracedFunction, boxed
from banyan.compiler.dynamo.decompositions import chosen_decompositions
from banyan.compiler.ir.graph import Graph
from banyan.compiler.options import CompileOptions
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.foundation.errors import BanyanError, InputError
from banyan.foundation.settings import load_settings

Function = Callable[..., Any]


class BanyanFallback(UserWarning):
    """A part of the model runs as PyTorch runs it, because this compiler cannot say it."""


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What `torch.compile(..., options={...})` may hold.

    Attributes:
        pack_weights: whether inference keeps parameters in the layout of its kernels. They are read
            again when their version counter changes; code that writes through `parameter.data`
            leaves it as it is and needs False.
        optimise: False builds faster and runs slower, for tests.
    """

    pack_weights: bool = True
    optimise: bool = True


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
        options: see `BackendOptions`.
        mode: of `torch.compile`; "default" is the only one.

    Raises:
        InputError: an unknown option or mode.
    """
    wanted = _checked(options or {}, mode)
    _notice_fused_steps()
    _use_our_attention(module)
    # Parameters change with every step of training: packing them would have to be done again.
    training = replace(wanted, pack_weights=False)
    compiler = aot_autograd(
        fw_compiler=partial(_compile, kind="forward", options=training),
        bw_compiler=partial(_compile, kind="backward", options=training),
        inference_compiler=partial(_compile, kind="inference", options=wanted),
        partition_fn=min_cut_rematerialization_partition,
        decompositions=chosen_decompositions(),
    )
    compiled: Function = compiler(module, example_inputs)
    return compiled


@cache
def _notice_fused_steps() -> None:
    register_optimizer_step_post_hook(_count_fused_step)


def _count_fused_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Fused optimizers write to parameters without a new version, by which we know a change."""
    for group in optimizer.param_groups:
        if group.get("fused"):
            increment_version([p for p in group["params"] if not p.is_inference()])


def _checked(options: Mapping[str, Any], mode: str | None) -> BackendOptions:
    known = [entry.name for entry in fields(BackendOptions)]
    unknown = [name for name in options if name not in known]
    if unknown or mode not in (None, "default"):
        asked = f"option {unknown[0]!r}" if unknown else f"mode {mode!r}"
        raise InputError(f"backend banyan has no {asked}; its options are {', '.join(known)}")
    return BackendOptions(**options)


def _use_our_attention(module: torch.fx.GraphModule) -> None:
    for part in module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:
                if node.target is functional.scaled_dot_product_attention:
                    node.target = attend
            part.recompile()


def _compile(
    module: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    kind: str,
    options: BackendOptions,
) -> Function:
    static = _static_places() if options.pack_weights else frozenset()

    def capture(seen: Mapping[str, int]) -> Traced:
        return capture_traced(module, kind, static, seen)

    try:
        return boxed(TracedFunction(capture, partial(_build, optimise=options.optimise)))
    except BanyanError as error:
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


def _build(graph: Graph, *, optimise: bool) -> CompiledProgram:
    settings = load_settings(os.environ)
    command = settings.compiler_command
    options = CompileOptions(settings.cache_directory, command, optimise=optimise)
    program = compile_graph(graph, device=_device(), target="cpp", options=options)
    if not isinstance(program, CompiledProgram):
        raise InputError(f"target cpp gave {type(program).__name__}")
    return program


@cache
def _device() -> Device:
    """The CPU, shared by every program of the process; its threads end with the process."""
    return find_device("cpu", settings=load_settings(os.environ))
