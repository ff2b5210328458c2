"""What `torch.compile(model, backend="banyan")` promises beside the numbers of a step."""

import copy
import importlib.metadata
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from banyan.compiler.dynamo.backend import BanyanFallback, banyan
from tests.compiler.dynamo.training import (
    assert_close,
    assert_trains_like_eager,
    compiled,
    needs_compiler,
)

pytestmark = needs_compiler
WHOLE: Any = {"optimise": False}


@pytest.fixture(autouse=True)
def _no_fallback() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", BanyanFallback)
        yield


def attend(x: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
    return functional.scaled_dot_product_attention(x, x * 2, x + 1, mask, **options)


def test_the_backend_is_found_by_its_name() -> None:
    (found,) = importlib.metadata.entry_points(group="torch_dynamo_backends", name="banyan")
    assert found.load() is banyan
    torch._dynamo.reset()
    run = torch.compile(lambda x: x + 1, backend="banyan", options=WHOLE)
    assert run(torch.ones(3)).tolist() == [2, 2, 2]


def test_one_program_serves_every_length() -> None:
    programs: list[int] = []

    def counting(module: Any, inputs: Any) -> Any:
        programs.append(1)
        return banyan(module, inputs, options=WHOLE)

    torch._dynamo.reset()
    layer = nn.Linear(8, 8)
    run = torch.compile(lambda x: attend(layer(x)).sum(1), backend=counting, dynamic=True)
    for length in (5, 9, 2, 200):
        x = torch.randn(3, length, 8)
        assert_close(run(x), attend(layer(x)).sum(1), 1e-5, f"length {length}")
    assert len(programs) == 1


def test_a_length_beyond_the_bound_compiles_a_larger_program() -> None:
    run = compiled(lambda x: x.cumsum(0) * x.shape[0], dynamic=True, fullgraph=True)
    for length in (4, 300, 7):
        x = torch.ones(length)
        assert_close(run(x), x.cumsum(0) * length, 1e-6, f"length {length}")


def test_sizes_that_are_in_no_shape_are_known() -> None:
    run = compiled(lambda x, n: x + torch.arange(n).sum() + n, dynamic=True, fullgraph=True)
    for n in (5, 6, 7):
        assert run(torch.zeros(2), n).tolist() == [n * (n - 1) / 2 + n] * 2


def test_attention_keeps_its_gradients_with_every_mask() -> None:
    seen = torch.rand(1, 1, 6, 6) > 0.3
    added = torch.randn(2, 1, 6, 6)
    for options in ({"is_causal": True}, {"mask": seen}, {"mask": added, "scale": 0.2}):
        layer = Attention(options)
        assert_trains_like_eager(layer, (torch.randn(2, 6, 8),))


class Attention(nn.Module):
    """Two heads with options of F.scaled_dot_product_attention."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.options, self.inner = options, nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.inner(x).unflatten(-1, (2, 4)).transpose(1, 2)
        return attend(heads, **self.options).transpose(1, 2).flatten(2)


def test_a_learned_mask_gets_its_gradient() -> None:
    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.randn(1, 2, 6, 6))

        def forward(self, x: Tensor) -> Tensor:
            return attend(x, self.bias)

    assert_trains_like_eager(Biased(), (torch.randn(2, 2, 6, 4),))


def test_grouped_heads_get_their_gradients() -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.Parameter(torch.randn(1, 4, 5, 8))
            self.k = nn.Parameter(torch.randn(1, 2, 7, 8))

        def forward(self) -> Tensor:
            return functional.scaled_dot_product_attention(
                self.q, self.k, self.k * 3, is_causal=True, enable_gqa=True
            )

    assert_trains_like_eager(Grouped(), ())


def test_a_graph_break_splits_the_model_and_changes_nothing() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x).tanh()
            if x.sum() > 0:
                x = x * 2
            return self.b(x)  # type: ignore[no-any-return]

    torch.manual_seed(1)
    for sign in (1, -1):
        assert_trains_like_eager(Branching(), (torch.randn(3, 4) * sign,))


def test_fullgraph_names_the_line_of_a_branch_on_data() -> None:
    def branching(x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x

    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"(?s)[Dd]ata-dependent.*x\.sum\(\)"):
        compiled(branching, fullgraph=True)(torch.ones(3))


def test_dropout_draws_anew_and_scales_gradients_alike() -> None:
    x = torch.ones(4000, requires_grad=True)
    run = compiled(lambda x: (functional.dropout(x, 0.25), functional.dropout(x, 0.25)))
    first, second = run(x)
    again = run(x)[0]
    assert not torch.equal(first, second)
    assert not torch.equal(first, again)
    kept = first > 0
    assert 0.72 < kept.float().mean() < 0.78
    assert torch.allclose(first[kept], torch.tensor(4 / 3))
    (gradient,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(gradient, first.detach())
    run = compiled(nn.Dropout(0.25).eval())
    assert torch.equal(run(x), x)


def test_changed_inputs_change_for_the_caller_and_results_are_their_own() -> None:
    def change(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x.add_(y)
        y[0] = 7
        return x, x.view(-1)[:2], y.clone()

    mine, theirs = ([torch.ones(2, 3), torch.arange(6.0).view(2, 3)] for _ in range(2))
    found, wanted = compiled(change)(*mine), change(*theirs)
    for left, right in zip((*mine, *found), (*theirs, *wanted), strict=True):
        assert torch.equal(left, right)
    found[2].zero_()
    assert mine[1].sum() != 0
    assert found[0] is mine[0]


def test_views_that_overlap_and_are_written_to_agree_with_eager() -> None:
    def change(x: Tensor) -> Tensor:
        view = x[1:]
        view.mul_(2)
        x[:2] += 1
        return view + x[:-1]

    mine, theirs = torch.arange(5.0), torch.arange(5.0)
    assert torch.equal(compiled(change)(mine), change(theirs))
    assert torch.equal(mine, theirs)


def test_results_come_in_the_memory_order_of_eager() -> None:
    x = torch.randn(2, 3, 4)
    found = compiled(lambda x: (x.transpose(1, 2) * 2, (x + 1).permute(2, 0, 1)))(x)
    wanted = x.transpose(1, 2) * 2, (x + 1).permute(2, 0, 1)
    for left, right in zip(found, wanted, strict=True):
        assert torch.equal(left, right)
        assert left.stride() == right.stride()
    turned = torch.randn(4, 3).t()
    assert torch.equal(compiled(lambda x: x @ x.t())(turned), turned @ turned.t())


def test_packed_parameters_are_read_again_when_they_change() -> None:
    layer = nn.Linear(32, 48)
    run = compiled(layer)
    x = torch.randn(64, 32)
    with torch.no_grad():
        assert_close(run(x), layer(x), 1e-4, "first")
        layer.weight.mul_(2)
        assert_close(run(x), layer(x), 1e-4, "in place")
        layer.weight.data = torch.randn(48, 32)
        assert_close(run(x), layer(x), 1e-4, "another tensor")
        layer.load_state_dict(nn.Linear(32, 48).state_dict())
        assert_close(run(x), layer(x), 1e-4, "loaded")


def test_packed_parameters_are_read_again_after_a_fused_step() -> None:
    layer = nn.Linear(32, 48)
    run = compiled(layer)
    x = torch.randn(64, 32)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
    layer(x).sum().backward()
    with torch.no_grad():
        run(x)
        optimizer.step()
        assert_close(run(x), layer(x), 1e-4, "fused step")


def test_models_made_in_inference_mode_run_and_may_change() -> None:
    with torch.inference_mode():
        layer = nn.Linear(32, 48)
        run, x = compiled(layer), torch.randn(64, 32)
        assert_close(run(x), layer(x), 1e-4, "first")
        layer.weight.mul_(2)
        assert_close(run(x), layer(x), 1e-4, "in place")


def test_buffers_that_the_model_changes_are_no_weights() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.eye(16))

        def forward(self, x: Tensor) -> Tensor:
            self.seen.add_(1)  # type: ignore[operator]
            return x @ self.seen.t()  # type: ignore[operator]

    plain = Counting()
    mine = copy.deepcopy(plain)
    run, x = compiled(mine), torch.randn(4, 16)
    with torch.no_grad():
        for _ in range(3):
            assert_close(run(x), plain(x), 1e-4, "result")
    assert torch.equal(mine.seen, plain.seen)  # type: ignore[arg-type]


@torch.library.custom_op("banyan_tests::twice_sorted", mutates_args=())
def twice_sorted(x: Tensor) -> Tensor:
    """An operation that no compiler knows."""
    return x.sort().values * 2


@twice_sorted.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_an_unknown_operation_is_called_in_the_middle() -> None:
    x = torch.randn(4, 6)
    assert_close(
        compiled(lambda x: twice_sorted(x + 1).exp())(x), twice_sorted(x + 1).exp(), 1e-5, ""
    )


def test_rows_that_are_all_ignored_have_no_gradient() -> None:
    logits = torch.randn(3, 5, requires_grad=True)
    run = compiled(lambda x: functional.cross_entropy(x, torch.full((3,), -100)))
    run(logits).backward()
    assert torch.equal(logits.grad, torch.zeros(3, 5))  # type: ignore[arg-type]


def test_the_lowest_whole_number_can_be_divided_by_minus_one() -> None:
    run = compiled(lambda x, y: (x // y, x % y))
    for dtype in (torch.int64, torch.int32):
        lowest = torch.iinfo(dtype).min
        numbers = torch.tensor([lowest, 7, -8], dtype=dtype)
        quotients, rests = run(numbers, torch.tensor([-1, -1, 3], dtype=dtype))
        assert quotients.tolist() == [lowest, -7, -3]
        assert rests.tolist() == [0, 0, 1]


def test_nothing_is_true_of_an_empty_axis() -> None:
    run = compiled(lambda x: (x.any(), x.any(0), x.all(), x.all(0)))
    found = [result.tolist() for result in run(torch.zeros(0, 2))]
    assert found == [False, [False, False], True, [True, True]]


def test_what_cannot_be_said_runs_in_pytorch_and_the_warning_names_it() -> None:
    def spectrum(x: Tensor) -> Any:
        return torch.fft.rfft(x).abs()

    x = torch.randn(8)
    with pytest.warns(BanyanFallback, match=r"_fft_r2c.*torch\.fft\.rfft\(x\)\.abs\(\).*complex64"):
        found = compiled(spectrum)(x)
    assert torch.equal(found, spectrum(x))


def test_numpy_in_the_middle_and_float64_still_work() -> None:
    def mixed(x: Tensor) -> Tensor:
        added: Any = np.asarray(x.numpy() + 1)
        return torch.from_numpy(added) * 2

    x = torch.randn(3, dtype=torch.float64)
    with pytest.warns(BanyanFallback, match="float64"):
        assert torch.equal(compiled(mixed)(x), mixed(x))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(Exception, match="no option 'fast'; its options are pack_weights, optimise"):
        torch.compile(lambda x: x + 1, backend=banyan, options={"fast": True})(torch.ones(2))


def test_another_rank_is_another_program() -> None:
    run = compiled(lambda x: x.sum(-1) * 2, dynamic=True)
    for shape in ((3,), (2, 3), (2, 2, 3)):
        assert_close(run(torch.ones(shape)), torch.ones(shape).sum(-1) * 2, 1e-6, str(shape))


def test_batch_norm_keeps_its_statistics_and_its_gradients() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    eager, x = copy.deepcopy(model), torch.randn(4, 3, 9, 9)
    compiled = torch.compile(model, backend="banyan")
    for _ in range(2):
        for run in (compiled, eager):
            run(x).square().mean().backward()
    for ours, theirs in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(list(model.buffers()), list(eager.buffers()))
    model.eval(), eager.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), eager(x), rtol=1e-4, atol=1e-5)
