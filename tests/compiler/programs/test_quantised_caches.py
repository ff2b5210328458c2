"""Quantised caches: what the formats cost, and that every target means the same by them."""

from pathlib import Path

import numpy as np
import pytest

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.passes.tile import tile
from banyan.compiler.targets.interpreter.run import run_graph
from banyan.devices.discovery import find_device
from banyan.devices.native import Missing, find_compiler
from banyan.foundation.settings import Settings
from tests.compiler.programs.rounded_caches import (
    NUM_BLOCKS,
    RoundedCase,
    first_states,
    given_steps,
    rounded_graph,
)
from tests.compiler.programs.test_paged_attention import without_tiles

CONTEXT = 82
COSTS = {"int8": 0.02, "fp8": 0.06, "int4": 0.15}
"""The norm of the difference to exact attention, over rows of standard normal numbers."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(RoundedCase("int8", 1, 32), marks=pytest.mark.wide),
        RoundedCase("int8", 4, 32),
        pytest.param(RoundedCase("int8", 2, 32, window=21), marks=pytest.mark.wide),
        pytest.param(RoundedCase("fp8", 4, 32), marks=pytest.mark.wide),
        RoundedCase("fp8", 1, 40, window=7),
        RoundedCase("int4", 4, 64, window=40),
        pytest.param(RoundedCase("int4", 4, 64), marks=pytest.mark.wide),
        pytest.param(RoundedCase("int4", 1, 32), marks=pytest.mark.wide),
        pytest.param(RoundedCase("int4", 1, 40, window=1), marks=pytest.mark.wide),
    ],
    ids=str,
)
def test_a_quantised_cache_costs_little_and_means_the_same_everywhere(
    case: RoundedCase, program_cache: Path
) -> None:
    graph = rounded_graph(case)
    # A whole prompt in one step; its last two tokens are a tile of few rows.
    arrays = first_states(case) | given_steps(case, (CONTEXT,), (0,))[0]
    wanted = run_graph(graph, arrays)
    queries, keys, values = (
        np.asarray(arrays[n], np.float32) for n in ("queries", "new_keys", "new_values")
    )
    keys, values = (np.repeat(x, 2, axis=1) for x in (keys, values))
    scores = np.einsum("qhd,khd->hqk", queries, keys) * 0.25
    seen = np.tri(CONTEXT, dtype=bool)
    if case.window:
        seen &= ~np.tri(CONTEXT, k=-case.window, dtype=bool)
    scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    exact = np.einsum("hqk,khd->qhd", weights, values)
    difference = np.asarray(wanted["out"], np.float32) - exact
    assert np.linalg.norm(difference) < COSTS[case.format] * np.linalg.norm(exact)
    lowered = run_graph(tile(graph), arrays)
    for name in ("out", "written keys", "written values_scales"):
        ours, theirs = (np.asarray(r[name], np.float32) for r in (lowered, wanted))
        np.testing.assert_allclose(ours, theirs, atol=3e-2)
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    device = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=2)
    options = CompileOptions(program_cache, optimise=False, instruction_set=without_tiles())
    program = compile_graph(graph, device=device, options=options)
    program.allocate_state({"blocks": NUM_BLOCKS})
    states = [a.name for a in program.inputs if a.role == "state"]
    for name in states:
        program.write_state(name, arrays[name])
    given = {name: array for name, array in arrays.items() if name not in states}
    found = np.asarray(program.run(given)["out"], np.float32)
    np.testing.assert_allclose(found, np.asarray(wanted["out"], np.float32), atol=3e-2)
    # The last token alone has the same bits, and a broken query spoils its own rows only.
    news = ("queries", "new_keys", "new_values", "slots")
    alone = {name: array[-1:] if name in news else array for name, array in given.items()}
    alone["starts"] = np.array([0, 1], np.int32)
    np.testing.assert_array_equal(np.asarray(program.run(alone)["out"], np.float32)[0], found[-1])
    alone["queries"] = alone["queries"].copy()
    alone["queries"][0, 1, 5] = np.inf
    spoiled = np.asarray(program.run(alone)["out"], np.float32)[0]
    np.testing.assert_array_equal(np.delete(spoiled, 1, 0), np.delete(found[-1], 1, 0))
    assert np.isnan(spoiled[1]).all()
    device.close()
