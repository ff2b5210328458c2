"""`banyan.compile`: a PyTorch module goes in, a callable that gives the same results comes out."""

from pathlib import Path
from typing import Any

import pytest
import torch

import banyan
from banyan.compiler.compiled_module import CompiledModule
from banyan.devices.native import Missing, find_compiler
from banyan.foundation.errors import InputError


class Mixture(torch.nn.Module):
    """Nested results, a mutable buffer, and one operation that stays PyTorch's."""

    num_calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = torch.nn.Linear(16, 33)
        self.register_buffer("num_calls", torch.zeros(33))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
        self.num_calls.add_(1.0)
        ordered, places = torch.sort(self.layer(x), dim=-1)
        return {"a": (ordered + self.num_calls, places), "b": [torch.tanh(y) @ y.T]}


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    # One folder for all tests here: the thread pool is built once.
    path = tmp_path_factory.getbasetemp() / "compiled-module"
    monkeypatch.setenv("BANYAN_CACHE", str(path))
    return path


def compile_mixture(module: Mixture, target: str) -> CompiledModule:
    x, y = torch.randn(4, 16), torch.randn(5, 5)
    shapes = ({0: torch.export.Dim("T", min=1, max=64)}, None)
    compiled: CompiledModule = banyan.compile(module, (x, y), target, shapes)
    return compiled


@pytest.mark.parametrize("target", ["cpp", "interpreter"])
def test_a_compiled_module_gives_what_the_module_gives(cache: Path, target: str) -> None:
    if target == "cpp" and isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    module = Mixture().eval()
    compiled = compile_mixture(module, target)
    for num_rows in (4, 7):
        x, y = torch.randn(num_rows, 16), torch.randn(5, 5)
        with torch.no_grad():
            wanted = module(x, y)
        found = compiled(x, y)
        torch.testing.assert_close(found["a"][0], wanted["a"][0])
        assert torch.equal(found["a"][1], wanted["a"][1])
        torch.testing.assert_close(found["b"], wanted["b"])
    report = compiled.report()
    assert [use.target for use in report.externs] == ["aten.sort.default"]
    assert 0.5 < report.coverage < 1.0
    assert any(label.startswith("extern aten.sort") for label, _ in report.rows())
    with pytest.raises(InputError, match="1 arguments were given"):
        compiled(torch.randn(4, 16))
    compiled.close()


def test_results_stay_when_the_module_is_called_again(cache: Path) -> None:
    compiled = banyan.compile(torch.nn.Tanh(), (torch.zeros(3),), "interpreter")
    first = compiled(torch.ones(3))
    compiled(torch.zeros(3))
    torch.testing.assert_close(first, torch.tanh(torch.ones(3)))


def test_bfloat16_tensors_go_in_and_come_out(cache: Path) -> None:
    x = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    compiled = banyan.compile(torch.nn.ReLU(), (x,), "interpreter")
    assert torch.equal(compiled(x), torch.relu(x))


def test_without_a_compiler_the_interpreter_runs_and_a_warning_says_so(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANYAN_CXX", "no-such-compiler")
    with pytest.warns(UserWarning, match=r"no C\+\+ compiler was found.*running on the interp"):
        compiled = banyan.compile(torch.nn.Tanh(), (torch.zeros(3),))
    assert compiled.report().target == "interpreter"
    torch.testing.assert_close(compiled(torch.ones(3)), torch.tanh(torch.ones(3)))


class Ledger(torch.nn.Module):
    """Returns what a buffer held before, and lets two buffers change places."""

    total: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(3))
        self.register_buffer("left", torch.zeros(3))
        self.register_buffer("right", torch.ones(3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        before, left = self.total.clone(), self.left.clone()
        self.total.add_(x)
        self.left.copy_(self.right)
        self.right.copy_(left)
        return before, self.left + 10 * self.right


@pytest.mark.parametrize("target", ["cpp", "interpreter"])
def test_states_start_and_change_as_the_buffers_of_the_module(cache: Path, target: str) -> None:
    if target == "cpp" and isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    module, x = Ledger(), torch.ones(3)
    compiled = banyan.compile(module, (x,), target)
    assert module.total.tolist() == [0.0, 0.0, 0.0]
    for _ in range(3):
        for found, wanted in zip(compiled(x), module(x), strict=True):
            assert torch.equal(found, wanted)
    compiled.close()
