"""Run two graphs on the same arrays and compare what comes out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.packing import AS_IT_IS
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.interpreter.arithmetic import pack_panels
from banyan.compiler.targets.interpreter.packed_quantized import pack_quantized
from banyan.compiler.targets.interpreter.run import run_graph


def packed(graph: Graph, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays, with weights in the layout that `graph` stores them in."""
    found = dict(arrays)
    for node in graph.inputs:
        packing = str(node.attr("packing"))
        if packing.startswith("quantized"):
            name, blocks = str(node.attr("name")), node.shape[0]
            assert isinstance(blocks, int)
            found[name] = pack_quantized(arrays[name], packing, blocks)
        elif packing not in {"None", AS_IT_IS}:
            multiple = 32 if node.dtype is DType.BFLOAT16 else 1
            width = 2 if node.dtype is DType.BFLOAT16 else 1
            name = str(node.attr("name"))
            found[name] = pack_panels(arrays[name], width, multiple)
    return found


def assert_same_results(
    before: Graph, after: Graph, arrays: Mapping[str, Any], tolerance: float = 1e-5
) -> None:
    """Interpret both graphs; every output must agree, as far as the roundings on the way allow."""
    # A tiled attention sums in another order than a whole one, and then rounds: a float32 that was
    # made from its result is as far off.
    rounds = any(
        node.op == "attention_forward" and node.args[0].dtype.numpy.itemsize == 2
        for node in before.nodes()
    )
    wanted = run_graph(before, arrays)
    found = run_graph(after, packed(after, arrays))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        left, right = (np.asarray(v, np.float64) for v in (found[name], value))
        narrow = value.dtype.itemsize == 2 or rounds
        bound = 3e-2 if narrow and value.dtype.kind not in "iu" else tolerance
        np.testing.assert_allclose(left, right, rtol=bound, atol=bound, err_msg=name)
