"""The front door: compile, load, run; and the programs it keeps on disk."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.executable import Executable
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.targets.cpp.target import CppTarget
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.devices.native import Missing, find_compiler
from banyan.devices.null import NullDevice
from banyan.foundation.errors import CompilerMissing, InputError
from banyan.foundation.settings import Settings
from tests.compiler.small_graphs import Weights, mixed_graph, mixed_weights

X = np.arange(24, dtype=np.float32).reshape(3, 8) / 10


@pytest.fixture(scope="module")
def pool_cache(program_cache: Path) -> Path:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    return program_cache


@pytest.fixture(scope="module")
def device(pool_cache: Path) -> Iterator[Device]:
    found = find_device("cpu", settings=Settings(cache_directory=pool_cache), num_threads=2)
    yield found
    found.close()


@pytest.fixture(scope="module")
def program(device: Device, pool_cache: Path) -> Executable:
    return ready(compile_mixed(device, pool_cache))


def compile_mixed(device: Device, directory: Path, **options: Any) -> Executable:
    chosen = CompileOptions(directory, optimise=False, **options)
    return compile_graph(mixed_graph(), device=device, options=chosen)


def ready(executable: Executable) -> Executable:
    executable.load_weights(mixed_weights())
    executable.allocate_state({"T": 3})
    return executable


def expected() -> Any:
    weights = mixed_weights().arrays
    return X @ weights["layer.weight"].T + weights["layer.bias"].astype(np.float32)


@pytest.mark.parametrize("target", ["cpp", "interpreter"])
def test_both_targets_run_the_same_graph_and_update_its_state(
    device: Device, pool_cache: Path, target: str
) -> None:
    options = CompileOptions(pool_cache, optimise=False)
    executable = ready(compile_graph(mixed_graph(), device=device, target=target, options=options))
    first = executable.run({"x": X})
    np.testing.assert_allclose(first["y"], expected(), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(first["sum"], X)
    np.testing.assert_allclose(executable.run({"x": X})["sum"], 2 * X)
    executable.write_state("total", 10 * X)
    np.testing.assert_allclose(executable.run({"x": X})["sum"], 11 * X)
    executable.write_state_part("total", 1, np.zeros_like(X[1]))
    changed = np.stack([12 * X[0], X[1], 12 * X[2]])
    np.testing.assert_allclose(executable.run({"x": X})["sum"], changed, rtol=1e-6)
    executable.allocate_state({"T": 3})
    np.testing.assert_allclose(executable.run({"x": X})["sum"], X)
    assert [o.name for o in executable.outputs] == ["y", "sum"]
    assert [i.role for i in executable.inputs] == ["argument", "weight", "weight", "state"]


@pytest.mark.parametrize("target", ["cpp", "interpreter"])
def test_weights_are_read_one_at_a_time_and_released(
    device: Device, pool_cache: Path, target: str
) -> None:
    options = CompileOptions(pool_cache, optimise=False)
    executable = compile_graph(mixed_graph(), device=device, target=target, options=options)
    weights, told = mixed_weights(), []
    executable.load_weights(weights, lambda done, total: told.append((done, total)))
    assert weights.events == [
        "read layer.weight",
        "release layer.weight",
        "read layer.bias",
        "release layer.bias",
    ]
    assert told == [(1, 2), (2, 2)]


def test_a_non_contiguous_argument_is_copied_not_misread(program: Executable) -> None:
    program.allocate_state({"T": 3})
    turned = np.asfortranarray(X)
    np.testing.assert_allclose(program.run({"x": turned})["y"], expected(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "argument 'x' is missing"),
        ({"x": X, "z": X}, "unknown argument 'z'"),
        ({"x": X.astype(np.float64)}, "has element type float64, but float32 is needed"),
        ({"x": X[:, :7]}, "x has shape"),
        ({"x": X[0]}, "2 dims are needed"),
        ({"x": np.zeros((33, 8), np.float32)}, "compiled for 1 to 32"),
        ({"x": np.zeros((4, 8), np.float32)}, "the arguments have T = 4, the states 3"),
    ],
)
def test_bad_arguments_are_refused_with_one_sentence(
    program: Executable, arguments: dict[str, Any], message: str
) -> None:
    program.allocate_state({"T": 3})
    with pytest.raises(InputError, match=message):
        program.run(arguments)


@pytest.mark.parametrize("target", ["cpp", "interpreter"])
def test_weights_and_states_must_be_there_and_fit(
    device: Device, pool_cache: Path, target: str
) -> None:
    options = CompileOptions(pool_cache, optimise=False)
    executable = compile_graph(mixed_graph(), device=device, target=target, options=options)
    with pytest.raises(InputError, match=r"weight 'layer\.weight'"):
        executable.run({"x": X})
    with pytest.raises(InputError, match=r"'layer\.weight' is not among those given"):
        executable.load_weights(Weights({}))
    with pytest.raises(InputError, match=r"has shape \(2, 8\)"):
        executable.load_weights(Weights({"layer.weight": np.zeros((2, 8), np.float32)}))
    with pytest.raises(InputError, match="depend on T"):
        executable.allocate_state({})
    with pytest.raises(InputError, match="outside the bounds 1 to 32"):
        executable.allocate_state({"T": 99})
    with pytest.raises(InputError, match="no state 'total'"):
        executable.write_state("total", X)
    executable.allocate_state({"T": 3})
    with pytest.raises(InputError, match="state 'total' is"):
        executable.write_state("total", X[:2])
    with pytest.raises(InputError, match="state 'total' has entries 0 to 2, not 3"):
        executable.write_state_part("total", 3, X[0])
    with pytest.raises(InputError, match=r"state 'total\[1\]' is"):
        executable.write_state_part("total", 1, X)


def test_an_unknown_target_or_instruction_set_is_refused(tmp_path: Path) -> None:
    options = CompileOptions(tmp_path, instruction_set="mmx")
    with pytest.raises(InputError, match="unknown target 'abacus'"):
        compile_graph(mixed_graph(), device=NullDevice(), target="abacus", options=options)
    with pytest.raises(InputError, match="'mmx' is not available here; choose from"):
        compile_graph(mixed_graph(), device=NullDevice(), options=options)


def test_kernels_that_need_a_bound_say_which(tmp_path: Path) -> None:
    builder, n = Builder(), symbol("n")
    x = builder.input("x", TensorType((1, 2, n, 15), DType.BFLOAT16))  # no whole pairs
    y = builder.add("attention_forward", (x, x, x), causal=False, scale=1.0)
    y = builder.add("get", (y,), index=0)
    graph = Graph("wide", (x,), (Output("y", y),))
    with pytest.raises(InputError, match="bound the size n, now up to 2147483647"):
        compile_graph(graph, device=NullDevice(), options=CompileOptions(tmp_path))


def test_a_machine_without_a_compiler_is_told_so(tmp_path: Path) -> None:
    options = CompileOptions(tmp_path, compiler_command="no-such-compiler")
    with pytest.raises(CompilerMissing, match="no C\\+\\+ compiler was found"):
        compile_graph(mixed_graph(), device=NullDevice(), options=options)


def test_the_second_compilation_lowers_and_builds_nothing(
    device: Device, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not compile_mixed(device, fresh_cache).report.cached

    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("a warm start must not come here")

    monkeypatch.setattr("banyan.compiler.passes.pipeline.lower", refuse)
    monkeypatch.setattr(CppTarget, "build", refuse)
    again = compile_mixed(device, fresh_cache)
    assert again.report.cached
    np.testing.assert_allclose(ready(again).run({"x": X})["y"], expected(), rtol=1e-5, atol=1e-5)
    with pytest.raises(AssertionError, match="warm start"):
        compile_mixed(device, fresh_cache, use_cache=False)


def test_a_damaged_entry_is_made_again(
    device: Device, fresh_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compile_mixed(device, fresh_cache)
    (entry,) = (fresh_cache / "programs").glob("*.json")
    entry.write_text("{ not json", encoding="utf-8")
    assert not compile_mixed(device, fresh_cache).report.cached
    assert "cannot be used and is made again" in caplog.text
    assert compile_mixed(device, fresh_cache).report.cached


def test_a_damaged_shared_object_is_built_again(device: Device, tmp_path: Path) -> None:
    compile_mixed(device, tmp_path)
    (entry,) = (tmp_path / "programs").glob("*.json")
    copy = tmp_path / "objects" / "damaged.so"
    copy.write_bytes(b"not a shared object")
    plain = json.loads(entry.read_text(encoding="utf-8"))
    entry.write_text(json.dumps({**plain, "image": str(copy)}), encoding="utf-8")
    again = compile_mixed(device, tmp_path)
    assert not again.report.cached
    np.testing.assert_allclose(ready(again).run({"x": X})["y"], expected(), rtol=1e-5, atol=1e-5)


def test_a_full_disk_costs_the_cache_not_the_program(
    device: Device,
    fresh_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_text = Path.write_text

    def full(path: Path, *args: Any, **options: Any) -> int:
        if path.parent.name == "programs":
            raise OSError(28, "No space left on device")
        return write_text(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", full)
    executable = compile_mixed(device, fresh_cache)
    assert "the next start compiles" in caplog.text
    np.testing.assert_allclose(
        ready(executable).run({"x": X})["y"], expected(), rtol=1e-5, atol=1e-5
    )


_CHILD = """
import sys
from pathlib import Path
from banyan.devices.discovery import find_device
from banyan.foundation.settings import Settings
from tests.compiler.test_compile import compile_mixed
device = find_device("cpu", settings=Settings(cache_directory=Path(sys.argv[2])), num_threads=1)
compile_mixed(device, Path(sys.argv[1]))
assert "torch" not in sys.modules
"""


def test_two_processes_compile_the_same_graph_at_once(pool_cache: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CHILD, str(tmp_path), str(pool_cache)]
    children = [subprocess.Popen(command) for _ in range(2)]
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    assert len(list((tmp_path / "programs").glob("*.json"))) == 1
    assert len(list((tmp_path / "objects").glob("program-*.so"))) == 1


def test_the_report_counts_what_was_done(program: Executable) -> None:
    report = program.report
    assert (report.name, report.target, report.coverage) == ("mixed", "cpp", 1.0)
    assert report.num_launches >= report.num_kernels >= 2
    assert report.weight_bytes == 32 * 8 * 4 + 20 * 4
    labels = [label for label, _ in report.rows()]
    assert labels[:3] == ["graph", "target", "compute nodes"]
