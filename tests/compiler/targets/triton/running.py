"""Run graphs through the Triton target on Triton's interpreter, and compare with the oracle."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from banyan.compiler.compile import make_manifest
from banyan.compiler.compiled import CompiledProgram
from banyan.compiler.executable import of_role
from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.packed_weights import WeightLoader
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.report import CompileReport
from banyan.compiler.targets.interpreter import run_graph
from banyan.compiler.targets.memory import place_memory
from banyan.compiler.targets.triton.chips import CHIPS, Chip
from banyan.compiler.targets.triton.target import TritonTarget
from banyan.devices.torch_device import INTERPRETER, TorchDevice
from tests.compiler.small_graphs import Weights

TOLERANCE = {DType.FLOAT32: 1e-4, DType.BFLOAT16: 2e-2}
"""By the narrowest floating type of a graph: relative, and absolute for results of at most 1, else
as a share of the largest. 16-bit values are rounded where they are stored and multiplied; the
oracle rounds them after each operation."""

CHIP = CHIPS["interpreter"]
SMALL = replace(
    CHIP,
    largest_grid=5,
    options=replace(
        CHIP.options,
        product_rows=4,
        product_columns=4,
        row_block=4,
        panel_group=1,
        depth_piece=3,
        longest_tile=5,
        widest_row=4,
        row_piece=3,
        tile_elements=16,
    ),
)
"""Pieces so small that tiny graphs have several: loops over depth, long rows, and the grid."""


def compiled(
    graph: Graph, directory: Path, chip: Chip = CHIP, device_name: str = INTERPRETER
) -> CompiledProgram:
    """A captured graph as a program for Triton's interpreter, or for a GPU."""
    device = TorchDevice(device_name)
    target = TritonTarget(chip, directory)
    lowered = lower(graph, target.tiling)
    placement = place_memory(lowered)
    text = target.emit(lowered, placement)
    report = CompileReport(graph.name, "triton", chip.name, 0, 0, 0, (), 0, 0, 0, 0.0, False)
    manifest = make_manifest(graph, lowered, placement, text, target.build(text), report)
    return CompiledProgram(manifest, device, WeightLoader(device, target.open_packer))


def run_on_triton(
    graph: Graph,
    arrays: Mapping[str, Any],
    directory: Path,
    chip: Chip = CHIP,
    device_name: str = INTERPRETER,
) -> dict[str, Any]:
    """The outputs that update no state."""
    program = compiled(graph, directory, chip, device_name)
    program.load_weights(Weights(arrays))
    program.allocate_state({})
    for state in of_role(program.inputs, "state"):
        program.write_state(state.name, arrays[state.name])
    return dict(program.run({a.name: arrays[a.name] for a in of_role(program.inputs, "argument")}))


def assert_agrees(
    graph: Graph,
    arrays: Mapping[str, Any],
    directory: Path,
    chip: Chip = CHIP,
    device_name: str = INTERPRETER,
) -> None:
    """Every output is that of the oracle."""
    wanted = run_graph(graph, arrays)
    found = run_on_triton(graph, arrays, directory, chip, device_name)
    kinds = [node.type for node in graph.nodes() if isinstance(node.type, TensorType)]
    narrow = any(kind.dtype.is_floating and kind.dtype.num_bytes < 4 for kind in kinds)
    bound = TOLERANCE[DType.BFLOAT16 if narrow else DType.FLOAT32]
    for name, value in found.items():
        assert wanted[name].shape == value.shape, name
        left, right = (np.asarray(v, np.float64) for v in (value, wanted[name]))
        scale = max(1.0, float(np.max(np.abs(right), initial=0.0, where=np.isfinite(right))))
        np.testing.assert_allclose(left, right, rtol=bound, atol=bound * scale, err_msg=name)
