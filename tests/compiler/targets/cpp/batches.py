"""Many graphs in one shared object, so that a test builds once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from banyan.compiler.compile import make_manifest
from banyan.compiler.compiled import CompiledProgram, Manifest
from banyan.compiler.ir.graph import Graph
from banyan.compiler.packed_weights import WeightLoader
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.report import CompileReport
from banyan.compiler.targets.cpp.program import print_program
from banyan.compiler.targets.cpp.registry import KERNEL_DIRECTORY
from banyan.compiler.targets.cpp.target import HEADER_DIRECTORY
from banyan.compiler.targets.memory import place_memory
from banyan.compiler.targets.target import ProgramText
from banyan.devices.device import Device, LoadedProgram
from banyan.devices.instruction_sets import InstructionSet
from banyan.devices.native import OPTIMISED_FLAGS, build_shared_object
from banyan.devices.thread_pool import NATIVE_DIRECTORY

FAST_FLAGS = tuple("-O1" if flag == "-O3" else flag for flag in OPTIMISED_FLAGS)
_HEAD = ("#define BANYAN_MOST_POINTERS 64", "#define BANYAN_MOST_SIZES 64", '#include "program.h"')


def build_batch(
    graphs: Sequence[Graph],
    level: InstructionSet,
    *,
    device: Device,
    cache_directory: Path,
    is_lowered: bool = False,
) -> list[CompiledProgram]:
    """Compile every graph into one object; element k runs graph k."""
    texts: list[str] = []
    made: list[tuple[Graph, Manifest]] = []
    for number, graph in enumerate(graphs):
        lowered = graph if is_lowered else lower(graph)
        placement = place_memory(lowered)
        text = print_program(lowered, placement, level.name)
        texts.append(_apart(text, number))
        manifest = make_manifest(graph, lowered, placement, text, Path(), _report(graph))
        made.append((graph, manifest))
    built = build_shared_object(
        "\n".join([*_HEAD, *texts]),
        flags=(*FAST_FLAGS, *level.compiler_flags),
        cache_directory=cache_directory,
        name="batch",
        include_directories=(HEADER_DIRECTORY, KERNEL_DIRECTORY, NATIVE_DIRECTORY),
    )
    return [
        CompiledProgram(_placed(manifest, built.path, number), device, _no_packing(device))
        for number, (_, manifest) in enumerate(made)
    ]


def _apart(text: ProgramText, number: int) -> str:
    """The program in a namespace of its own, its entry under a name of its own."""
    assert text.entries == ("banyan_run_0",)
    body = text.source.partition('#include "program.h"')[2]
    return f"namespace case_{number} {{{body.replace('banyan_run_0', f'run_{number}')}}}"


def _placed(manifest: Manifest, image: Path, number: int) -> Manifest:
    values: dict[str, Any] = {name: getattr(manifest, name) for name in Manifest.__slots__}
    return Manifest(**{**values, "image": image, "entries": (f"run_{number}",)})


def _no_packing(device: Device) -> WeightLoader:
    def refuse() -> LoadedProgram:
        raise AssertionError("graphs of a batch have no packed weights")

    return WeightLoader(device, refuse)


def _report(graph: Graph) -> CompileReport:
    return CompileReport(graph.name, "cpp", "", 0, 0, 0, (), 0, 0, 0, 0.0, False)
