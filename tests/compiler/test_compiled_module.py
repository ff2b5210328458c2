"""`banyan.compile`: a PyTorch module goes in, a callable that gives the same results comes out."""

import threading
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
        fractions, powers = torch.frexp(self.layer(x))
        return {"a": (fractions + self.num_calls, powers), "b": [torch.tanh(y) @ y.T]}


@pytest.fixture
def cache(program_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BANYAN_CACHE", str(program_cache))
    return program_cache


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
    assert [use.target for use in report.externs] == ["aten.frexp.Tensor"]
    assert 0.5 < report.coverage < 1.0
    assert any(label.startswith("extern aten.frexp") for label, _ in report.rows())
    with pytest.raises(InputError, match="1 arguments were given"):
        compiled(torch.randn(4, 16))
    compiled.close()


class Bag(torch.nn.Module):
    """Its operation also gives numbers that nobody reads, of another shape than PyTorch says."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.bag = torch.nn.EmbeddingBag(10, 6, mode="sum").bfloat16()

    def forward(self, tokens: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        bags: torch.Tensor = self.bag(tokens, starts)
        return bags * 2


@pytest.mark.parametrize("target", ["cpp", "interpreter"])
def test_results_of_the_framework_that_nothing_reads_may_have_any_shape(
    cache: Path, target: str
) -> None:
    module = Bag().eval()
    tokens, starts = torch.tensor([1, 2, 4, 5, 4]), torch.tensor([0, 2])
    compiled: CompiledModule = banyan.compile(module, (tokens, starts), target)
    with torch.no_grad():
        torch.testing.assert_close(compiled(tokens, starts), module(tokens, starts))
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


class Scaled(torch.nn.Module):
    """Takes a plain number beside its tensor."""

    def forward(self, x: torch.Tensor, factor: int) -> torch.Tensor:
        return x * factor


def test_a_plain_number_is_part_of_the_program_and_another_one_is_refused(cache: Path) -> None:
    compiled = banyan.compile(Scaled(), (torch.ones(2), 3), "interpreter")
    assert compiled(torch.ones(2), 3).tolist() == [3.0, 3.0]
    with pytest.raises(InputError, match="argument 1 is 5, but the module was compiled for 3"):
        compiled(torch.ones(2), 5)
    with pytest.raises(InputError, match="3 arguments were given; 2 are needed"):
        compiled(torch.ones(2), 3, torch.ones(2))


def test_calls_from_two_threads_do_not_mix_their_results(cache: Path) -> None:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    torch.manual_seed(0)
    layers = torch.nn.Linear(64, 512), torch.nn.Tanh(), torch.nn.Linear(512, 64)
    module, inputs = torch.nn.Sequential(*layers), [torch.randn(16, 64) for _ in range(2)]
    compiled = banyan.compile(module, (inputs[0],))
    wanted = [compiled(x) for x in inputs]
    mixed: list[int] = []

    def call(number: int) -> None:
        for _ in range(200):
            if not torch.equal(compiled(inputs[number]), wanted[number]):
                mixed.append(number)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mixed == []
    compiled.close()
