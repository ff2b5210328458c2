import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.compiler.capture.capturing import assert_agrees, captured, operations

X = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)


def moved(x: Tensor) -> list[Tensor]:
    return [
        x.view(6, 4), x.reshape(-1), x.permute(2, 0, 1), x.transpose(0, -1), x[0].t(),
        x.unsqueeze(1), x.unsqueeze(-1).squeeze(-1), x.flatten(1), torch.unflatten(x, -1, (2, 2)),
        x.contiguous(), x.clone(), x[:1].expand(5, 3, 4), x.repeat(1, 2, 1), x.repeat(2, 1, 1, 1),
        x.mT, x.movedim(0, 2), x.squeeze(), x[:, :1].squeeze(1),
    ]  # fmt: skip


def cut(x: Tensor) -> list[Tensor]:
    return [
        x[:, 1:], x[..., :-1], x[..., ::2], x[0], x[-1], x[:, -2:], x.select(1, 2), x[..., 1:100],
        *torch.split(x, 2, dim=-1), *torch.split(x, [1, 3], dim=-1), *x.chunk(2, -1), *x.unbind(0),
        x.narrow(1, 1, 2), x.flip(0), x.flip(-1),
    ]  # fmt: skip


def joined(x: Tensor) -> list[Tensor]:
    return [
        torch.cat([x, x * 2], 0), torch.cat([x, -x, x], -1), torch.stack([x, x + 1], 1),
        torch.cat([torch.empty(0), x[0, 0]]), functional.pad(x, (1, 2)),
        functional.pad(x, (0, 0, 2, 1), value=7.0),
        functional.pad(x, (-1, 1)), torch.cat([x, x.to(torch.int64)], 0), torch.roll(x, 1, -1),
    ]  # fmt: skip


def made(x: Tensor) -> list[Tensor]:
    return [
        torch.arange(5), torch.arange(2, 9, 3), torch.arange(1.0, 3.0, 0.5) + x[0, 0],
        torch.zeros(2, 3), torch.ones_like(x), torch.zeros_like(x, dtype=torch.int64),
        torch.full((2, 2), 1.5), torch.full_like(x, 3), x.new_zeros(3), x.new_ones(1),
        x.new_full((2,), 4.0),
        torch.tril(x), torch.triu(x, 1), torch.tril(x, -1), torch.eye(3), torch.linspace(0, 1, 5),
        torch.scalar_tensor(2.0),
    ]  # fmt: skip


@pytest.mark.parametrize("function", [moved, cut, joined])
def test_shape_operations_agree_with_pytorch(function: object) -> None:
    assert callable(function)
    assert_agrees(function, X)


def test_made_tensors_agree_with_pytorch() -> None:
    assert_agrees(made, X)


def test_sizes_stay_symbolic_through_views_and_ranges() -> None:
    length = torch.export.Dim("length", min=3, max=64)
    graph = captured(
        lambda x: (x.reshape(-1, 2, 2), torch.arange(x.shape[0]) * 2, x[1:], torch.cat([x, x])),
        X[0],
        dynamic_shapes=({0: length},),
    )
    shapes = [tuple(str(size) for size in output.node.shape) for output in graph.outputs]
    assert shapes[0] == ("length", "2", "2")
    assert shapes[1] == ("length",)
    assert shapes[2] == ("length + -1", "4")
    assert shapes[3] == ("2 * length", "4")


def test_views_that_change_nothing_leave_no_node() -> None:
    graph = captured(lambda x: x.contiguous().clone().view(2, 3, 4) + 1, X)
    assert operations(graph) == {"input", "constant", "expand", "add"}
