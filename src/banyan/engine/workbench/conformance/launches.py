"""Checks of launches: calls that do not fit, many in a row, changing sizes, and equal bits."""

from collections.abc import Callable, Iterator

import numpy as np

from banyan.compiler.compile import compile_graph
from banyan.compiler.executable import Executable
from banyan.compiler.ir.types import DType
from banyan.devices.device import Program
from banyan.engine.workbench.conformance.checks import (
    Array,
    Bench,
    Check,
    compare,
    first_line,
    must_refuse,
)
from banyan.engine.workbench.conformance.graph_case import GraphCase, ready
from banyan.engine.workbench.conformance.models import (
    attention_case,
    linear_case,
    norm_case,
    paged_case,
    quantized_case,
)
from banyan.engine.workbench.conformance.operators import MOST, reduction_case
from banyan.foundation.errors import BanyanError, InputError

_LAUNCHES = 200
_REPEATS = 5
_SIZES = (1, 61, 2, 16)


def launch_checks(bench: Bench) -> Iterator[Check]:
    """A device that runs nothing is asked to count its arguments only."""
    if not bench.runs_programs:
        yield from _calls_that_do_not_fit(bench)
        return
    case = linear_case(DType.FLOAT32, 17, 5)
    try:
        program = ready(
            compile_graph(case.graph, device=bench.device, options=bench.options), case, 1
        )
    # Whatever a driver throws is a finding of the kit.
    except Exception as error:
        yield Check("launches", "a small program", False, f"does not load: {first_line(error)}")
        return
    yield from _wrong_arguments(program, case)
    yield _many_launches(bench, program, case)


def _calls_that_do_not_fit(bench: Bench) -> Iterator[Check]:
    device = bench.device
    loaded = device.load(Program("kit", "cpp", None, "banyan_run", 2, 1, 0))
    buffers = [device.allocate(64), device.allocate(64)]
    device.launch(loaded, buffers, [3])
    yield Check("launches", "two buffers and a size", True, "was taken")
    acts: dict[str, Callable[[], object]] = {
        "a buffer too few": lambda: device.launch(loaded, buffers[:1], [3]),
        "a size too many": lambda: device.launch(loaded, buffers, [3, 4]),
    }
    for name, act in acts.items():
        yield must_refuse("launches", name, (InputError,), act)


def _wrong_arguments(program: Executable, case: GraphCase) -> Iterator[Check]:
    """No rows, more than were compiled for, another element type, another width."""
    x = case.arrays(3, {"argument"})["x"]
    given: dict[str, Array] = {
        "no rows": x[:0],
        f"{MOST + 1} rows of at most {MOST}": np.repeat(x[:1], MOST + 1, axis=0),
        "another element type": x.astype(np.float64),
        "another width": x[:, :-1].copy(),
    }
    for name, value in given.items():
        yield must_refuse("launches", name, (BanyanError,), lambda v=value: program.run({"x": v}))
    yield must_refuse("launches", "no argument at all", (BanyanError,), lambda: program.run({}))


def _many_launches(bench: Bench, program: Executable, case: GraphCase) -> Check:
    """Sizes change from launch to launch, and nothing of the last one is left."""
    name = f"{_LAUNCHES} launches of changing sizes"
    oracle = compile_graph(
        case.graph, device=bench.device, target="interpreter", options=bench.options
    )
    ready(oracle, case, 1)
    wanted = {n: oracle.run(case.arrays(n, {"argument"}))["out"].copy() for n in _SIZES}
    for number in range(_LAUNCHES):
        size = _SIZES[number % len(_SIZES)]
        found = program.run(case.arrays(size, {"argument"}))["out"]
        check = compare("launches", name, found, wanted[size], case.tolerance)
        if not check.passed:
            return Check("launches", f"{name}: launch {number}, n={size}", False, check.found)
    return check


def determinism_checks(bench: Bench) -> Iterator[Check]:
    """The same run gives the same bits, whatever ran between."""
    cases = (
        linear_case(DType.BFLOAT16, 128, 96),
        quantized_case("int8", 64, "int8"),
        norm_case(DType.FLOAT32),
        reduction_case(DType.FLOAT32),
        attention_case(DType.FLOAT32),
        paged_case("bfloat16"),
    )
    for case in cases:
        yield _repeated(bench, case)


def _repeated(bench: Bench, case: GraphCase) -> Check:
    name = f"{_REPEATS} runs of {case.name} are equal to the bit"
    try:
        program = compile_graph(case.graph, device=bench.device, options=bench.options)
        first = _outputs(program, case, 61)
        for number in range(1, _REPEATS):
            _outputs(program, case, 3)
            again = _outputs(program, case, 61)
            for output, value in first.items():
                if value.tobytes() != again[output].tobytes():
                    apart = np.abs(value.astype(np.float64) - again[output].astype(np.float64))
                    said = f"run {number + 1} differs in {output} by up to {apart.max():.2e}"
                    return Check("determinism", name, False, said)
    # Whatever a driver throws is a finding of the kit.
    except Exception as error:
        return Check("determinism", name, False, f"does not run: {first_line(error)}")
    return Check("determinism", name, True, "no bit differs")


def _outputs(program: Executable, case: GraphCase, size: int) -> dict[str, Array]:
    found = ready(program, case, size).run(case.arrays(size, {"argument"}))
    return {name: np.array(value) for name, value in found.items()}
