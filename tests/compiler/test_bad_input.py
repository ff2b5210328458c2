"""What a person reads when a module cannot be compiled: what, where, and what works instead."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import banyan
from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.foundation.errors import CompilationFailed, CompilerMissing, GraphError, InputError
from banyan.foundation.settings import Settings
from tests.compiler.small_graphs import mixed_graph

X = torch.arange(32.0).reshape(4, 8)


class Module(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def branch(x: Tensor) -> Tensor:
    return x + 1 if x.sum() > 0 else x - 1


def chosen(x: Tensor) -> Tensor:
    return x[x > 3] * 2


def wide(x: Tensor) -> Tensor:
    return x.double() + 1


def in_place(x: Tensor) -> Tensor:
    return x.add_(1) * 2


def resized(x: Tensor) -> Tensor:
    return x.resize_(2, 4)


def broken(x: Tensor) -> Tensor:
    return x @ x


def without_kernel(x: Tensor) -> Tensor:
    return torch.ops.banyan_test.without_kernel(x)  # type: ignore[no-any-return]


def without_shapes(x: Tensor) -> Tensor:
    return torch.ops.banyan_test.without_shapes(x)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def library() -> Iterator[torch.library.Library]:
    with torch.library._scoped_library("banyan_test", "DEF") as found:
        found.define("without_kernel(Tensor x) -> Tensor")
        found.define("without_shapes(Tensor x) -> Tensor")
        found.impl("without_shapes", lambda x: x + 1, "CPU")
        yield found


@pytest.mark.parametrize(
    ("function", "what", "line", "instead"),
    [
        (branch, "torch.export cannot trace Module", "if x.sum() > 0", "torch.where or torch.cond"),
        (chosen, "aten.index.Tensor", "self.function(x)", "a mask of fixed size"),
        (wide, "torch.float64 is not supported", "self.function(x)", ".float()"),
        (in_place, "changes its argument 0 in place", "", "return the new value"),
        (resized, "changes its argument 0 in place", "", "return the new value"),
        (broken, "fails on its example in PyTorch", "return x @ x", ""),
        (without_kernel, "'banyan_test::without_kernel' has no kernel", "", "torch.library.impl"),
        (without_shapes, "no kernel for shapes alone", "", "torch.library.register_fake"),
    ],
)
def test_a_module_that_cannot_be_captured_is_told_what_where_and_what_works(
    function: Callable[[Tensor], Tensor],
    what: str,
    line: str,
    instead: str,
    library: torch.library.Library,
) -> None:
    with pytest.raises(GraphError) as refused:
        banyan.compile(Module(function), (X.clone(),))
    said = str(refused.value)
    assert what in said
    assert line in said
    assert instead in said
    if line:
        assert "test_bad_input.py:" in said


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        (torch.ones(2, 4, 8), r"has shape \(2, 4, 8\); 2 dims are needed"),
        (torch.ones(5, 9), r"a dim of 8 is 9"),
        (torch.ones(17, 8), "compiled for 0 to 16"),
        (torch.ones(4, 8, dtype=torch.float64), "element type float64, but float32 is needed"),
    ],
)
def test_an_argument_that_does_not_fit_is_told_the_value_and_the_limit(
    argument: Tensor, said: str
) -> None:
    rows = torch.export.Dim("rows", max=16)
    program = banyan.compile(Module(torch.relu), (X,), dynamic_shapes=(({0: rows}),))
    with pytest.raises(InputError, match=said):
        program(argument)


@pytest.fixture
def cpu(program_cache: Path) -> Iterator[Device]:
    found = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=1)
    yield found
    found.close()


def test_a_compiler_that_fails_is_named_with_its_own_words(tmp_path: Path, cpu: Device) -> None:
    command = tmp_path / "compiler"
    command.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo 1 && exit\necho 'no room' >&2\nexit 1"
    )
    command.chmod(0o755)
    options = CompileOptions(tmp_path, compiler_command=str(command))
    with pytest.raises(CompilationFailed, match="no room"):
        compile_graph(mixed_graph(), device=cpu, options=options)


def test_a_compiler_that_is_missing_is_named(tmp_path: Path, cpu: Device) -> None:
    options = CompileOptions(tmp_path, compiler_command="/no/such/compiler")
    with pytest.raises(CompilerMissing, match="/no/such/compiler"):
        compile_graph(mixed_graph(), device=cpu, options=options)


def test_an_unknown_target_or_instruction_set_is_told_the_known_ones(
    tmp_path: Path, cpu: Device
) -> None:
    with pytest.raises(InputError, match="known are cpp"):
        compile_graph(mixed_graph(), device=cpu, target="metal", options=CompileOptions(tmp_path))
    options = CompileOptions(tmp_path, instruction_set="avx1024")
    with pytest.raises(InputError, match="choose from"):
        compile_graph(mixed_graph(), device=cpu, options=options)


def test_a_damaged_program_on_disk_is_made_again(tmp_path: Path, cpu: Device) -> None:
    options = CompileOptions(tmp_path, optimise=False)
    assert not compile_graph(mixed_graph(), device=cpu, options=options).report.cached
    assert compile_graph(mixed_graph(), device=cpu, options=options).report.cached
    for path in (tmp_path / "programs").iterdir():
        path.write_text(path.read_text()[:100])
    assert not compile_graph(mixed_graph(), device=cpu, options=options).report.cached
    for path in (tmp_path / "objects").glob("program*.so"):
        cut = path.read_bytes()[:1000]
        path.unlink()  # this process runs the old file: a new one takes its name
        path.write_bytes(cut)
    assert not compile_graph(mixed_graph(), device=cpu, options=options).report.cached


def test_a_program_of_another_version_is_not_found(
    fresh_cache: Path, cpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = CompileOptions(fresh_cache, optimise=False)
    compile_graph(mixed_graph(), device=cpu, options=options)
    monkeypatch.setattr("banyan.compiler.cache.compiler_digest", lambda: "another version")
    assert not compile_graph(mixed_graph(), device=cpu, options=options).report.cached
