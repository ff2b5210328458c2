"""The front door: a captured graph becomes something that runs.

Called by the engine and by `banyan.compile`. Owns the order of things: look in the cache, lower,
place in memory, print, build, keep. Imports torch only to capture a module.
"""

import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from banyan.compiler.cache import forget_manifest, keep_manifest, program_key, read_manifest
from banyan.compiler.compiled import CompiledProgram, Manifest, StoredInput, StoredOutput
from banyan.compiler.executable import Argument, Executable
from banyan.compiler.interpreted import InterpretedGraph, graph_arguments
from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.packing import joined_behind
from banyan.compiler.ir.symbols import upper_bound
from banyan.compiler.ir.text import print_graph
from banyan.compiler.options import CompileOptions
from banyan.compiler.packed_weights import WeightLoader
from banyan.compiler.report import CompileReport, graph_report
from banyan.compiler.targets.cpp.alignment import aligned_inputs
from banyan.compiler.targets.memory import ExternCall, Placement, arena_offsets, place_memory
from banyan.compiler.targets.target import ProgramText, Target
from banyan.compiler.tiling.options import TileOptions
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.foundation.errors import CompilationFailed, CompilerMissing, InputError
from banyan.foundation.settings import load_settings

if TYPE_CHECKING:
    from banyan.compiler.capture.arrays import Module
    from banyan.compiler.compiled_module import CompiledModule

__all__ = [
    "CompileOptions",
    "Executable",
    "LoweredProgram",
    "compile",
    "compile_graph",
    "lower_for",
]

TARGETS: Mapping[str, str] = {
    name: f"banyan.compiler.targets.{name}.target" for name in ("cpp", "opencl", "triton")
}
"""The module whose `open_target` opens each target for a device, imported when it is asked for;
"interpreter" runs the graph itself and needs none."""

_TARGET_OF_CHIP = {
    "cpu": "cpp",
    "null": "cpp",
    "cuda": "triton",
    "triton": "triton",
    "opencl": "opencl",
}
"""The target that makes programs for a device, by the first part of the device's name."""

_CHIP_OF_TARGET = {"triton": "cuda"}
"""The device that `compile` takes for a target when none is named; the CPU for all others."""

LARGEST_SCRATCH_BYTES = 1 << 30
"""Scratch memory of one thread beyond which a program is refused."""


def compile_graph(
    graph: Graph, *, device: Device, target: "str | Target | None" = None, options: CompileOptions
) -> Executable:
    """Compile a captured graph for a device; `target` None takes the one its chip needs.

    A target may be given itself instead of its name: see "A new target" in the documentation.

    Raises:
        CompilerMissing: target "cpp" on a machine without a C++ compiler; "interpreter" needs none.
        CompilationFailed: the generated text did not build, which is a fault of ours.
        InputError: an unknown target or instruction set, or sizes without a useful bound.
    """
    chosen = target or target_of(device)
    if chosen == "interpreter":
        return InterpretedGraph(graph, graph_report(graph, graph, "interpreter", "NumPy"))
    opened = _open_target(chosen, device, options) if isinstance(chosen, str) else chosen
    return _Compilation(graph, device, opened, options).run()


@dataclass(frozen=True, slots=True)
class LoweredProgram:
    """A graph just before it is built, for those who want to look inside.

    Attributes:
        graph: of kernels.
        placement: the launches in order, and the memory of every value.
        text: what the target printed.
    tiling: how the target wanted it lowered.
    """

    graph: Graph
    placement: Placement
    text: ProgramText
    tiling: TileOptions


def lower_for(
    graph: Graph, *, device: Device, target: str | None = None, options: CompileOptions
) -> LoweredProgram:
    """Lower and print a graph as `compile_graph` does, and stop there.

    Raises:
        CompilationFailed, InputError: as `compile_graph`.
    """
    return _lowered(graph, _open_target(target or target_of(device), device, options))


def _open_target(name: str, device: Device, options: CompileOptions) -> Target:
    if name not in TARGETS:
        known = ", ".join((*TARGETS, "interpreter"))
        raise InputError(f"unknown target {name!r}; known are {known}")
    opened: Target = import_module(TARGETS[name]).open_target(device, options)
    return opened


def _lowered(graph: Graph, target: Target) -> LoweredProgram:
    # Imported here because a warm start, which finds its program on disk, needs no pass.
    from banyan.compiler.passes.pipeline import lower  # noqa: PLC0415

    lowered = lower(graph, target.tiling)
    placement = place_memory(lowered)
    return LoweredProgram(lowered, placement, target.emit(lowered, placement), target.tiling)


def target_of(device: Device) -> str:
    """The target whose programs a device runs."""
    return _TARGET_OF_CHIP.get(device.name.partition(":")[0], "cpp")


def compile(  # noqa: A001  (the name of torch.compile)
    module: "Module",
    example_args: tuple[Any, ...],
    target: str = "cpp",
    dynamic_shapes: Any = None,
    *,
    example_kwargs: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> "CompiledModule":
    """Compile a PyTorch module for the CPUs of this machine, or for another device.

    Args:
        module: in evaluation mode; runs once on the example to learn how its results nest.
        example_args: tensors like those it will be called with.
        target: "cpp", "triton" or "interpreter".
        dynamic_shapes: sizes that may change, as for `torch.export.export`; others are fixed.
        example_kwargs: arguments that it will be called with by name.
        device: its name; None takes the first GPU for "triton", else the CPU.

    Without a C++ compiler the interpreter runs instead, and a warning says so.

    Raises:
        GraphError: the module cannot be captured.
        InputError: an unknown target.
        DeviceMissing: there is no such device.
    """
    # Imported here because they import torch, which `import banyan` must not.
    from banyan.compiler.capture.arrays import leaves, result_nesting  # noqa: PLC0415
    from banyan.compiler.capture.export import Names, capture_module  # noqa: PLC0415
    from banyan.compiler.compiled_module import CompiledModule, fill  # noqa: PLC0415

    keywords = dict(example_kwargs or {})
    nesting = result_nesting(module, example_args, keywords)
    example = leaves((example_args, keywords))
    names = Names(arguments=[f"argument.{i}" for i in range(len(example))])
    name = type(module).__name__
    graph = capture_module(
        module,
        example_args,
        name=name,
        example_keywords=keywords,
        dynamic_shapes=dynamic_shapes,
        names=names,
    )
    settings = load_settings(os.environ)
    chip = find_device(device or _CHIP_OF_TARGET.get(target, "cpu"), settings=settings)
    options = CompileOptions(settings.cache_directory, settings.compiler_command)
    try:
        executable = compile_graph(graph, device=chip, target=target, options=options)
    except CompilerMissing as error:
        warnings.warn(f"{error}; running on the interpreter, which is slow", stacklevel=2)
        executable = compile_graph(graph, device=chip, target="interpreter", options=options)
    fill(executable, module)
    return CompiledModule(executable, chip, nesting, example, tuple(keywords))


@dataclass(frozen=True, slots=True)
class _Compilation:
    graph: Graph
    device: Device
    target: Target
    options: CompileOptions

    def run(self) -> Executable:
        began = time.perf_counter()
        key = program_key(print_graph(self.graph), f"{self.target.name} {self.target.settings}")
        directory = self.options.cache_directory
        kept = read_manifest(directory, key) if self.options.use_cache else None
        if kept is not None:
            try:
                return self._ready(_as_cached(kept, time.perf_counter() - began))
            except CompilationFailed:
                forget_manifest(directory, key, kept.image)
        manifest, externs = self._compile(began)
        if not externs:
            keep_manifest(directory, key, manifest)
        return self._ready(manifest, externs)

    def _compile(self, began: float) -> tuple[Manifest, tuple[ExternCall, ...]]:
        target = self.target
        made = _lowered(self.graph, target)
        lowered, placement, text = made.graph, made.placement, made.text
        _check_scratch(lowered, text)
        image = target.build(text)
        arena = arena_offsets(
            placement.slots, [upper_bound(slot.num_bytes) for slot in placement.slots]
        )
        report = replace(
            graph_report(self.graph, lowered, target.name, target.detail),
            num_kernels=text.num_kernels,
            num_launches=text.num_launches,
            arena_bytes=arena[1],
            scratch_bytes=text.scratch_bytes,
            seconds=time.perf_counter() - began,
        )
        externs = tuple(step for step in placement.steps if isinstance(step, ExternCall))
        return make_manifest(self.graph, lowered, placement, text, image, report), externs

    def _ready(self, manifest: Manifest, externs: tuple[ExternCall, ...] = ()) -> CompiledProgram:
        loader = WeightLoader(self.device, self.target.open_packer)
        return CompiledProgram(manifest, self.device, loader, externs)


def _check_scratch(graph: Graph, text: ProgramText) -> None:
    if text.scratch_bytes <= LARGEST_SCRATCH_BYTES:
        return
    widest = max(graph.symbols(), key=lambda symbol: symbol.maximum, default=None)
    asked = f"{text.scratch_bytes / 2**30:.0f} GiB of scratch memory per thread"
    advice = (
        "make its tiles smaller"
        if widest is None
        else f"bound the size {widest.name}, now up to {widest.maximum}, for example with "
        f"torch.export.Dim({widest.name!r}, max=4096)"
    )
    raise InputError(f"kernels of {graph.name!r} would need {asked} at the largest sizes; {advice}")


def make_manifest(
    graph: Graph,
    lowered: Graph,
    placement: Placement,
    text: ProgramText,
    image: Path,
    report: CompileReport,
) -> Manifest:
    asked = {argument.name: argument for argument in graph_arguments(graph)}
    aligned = aligned_inputs(placement)
    behind = joined_behind(lowered)
    inputs = []
    for number, node in enumerate(lowered.inputs):
        packing = node.attr("packing")
        argument = asked[str(node.attr("name"))]
        kept_as = None if packing is None else str(packing)
        place = behind.get(number)
        inputs.append(StoredInput(argument, node.tensor, kept_as, number in aligned, place))
    located = zip(lowered.outputs, placement.outputs, strict=True)
    outputs = tuple(
        StoredOutput(Argument(output.name, output.node.tensor, "output"), location)
        for output, location in located
        if output.updates is None
    )
    return Manifest(
        inputs=tuple(inputs),
        outputs=outputs,
        memories=placement.output_types,
        symbols=tuple(symbol.name for symbol in lowered.symbols()),
        slots=placement.slots,
        entries=tuple(text.entries),
        scratch_bytes=text.scratch_bytes,
        image=image,
        report=report,
    )


def _as_cached(manifest: Manifest, seconds: float) -> Manifest:
    return replace(manifest, report=replace(manifest.report, cached=True, seconds=seconds))
