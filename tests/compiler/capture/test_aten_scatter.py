import math

import torch
from torch import Tensor

from banyan.compiler.ir.verify import operations_used
from tests.compiler.capture.capturing import assert_agrees, captured, interpreted

X = torch.tensor([[3.0, 1.0, 2.0, 1.0], [0.5, math.nan, 4.0, -math.inf]])
INDEX = torch.tensor([[0, 2, 2], [3, 0, 3]])
SOURCE = torch.tensor([[5.0, 6.0, 7.0, 1.0], [8.0, 9.0, 10.0, 2.0], [1.0, 1.0, 1.0, 1.0]])


def test_scattering_lets_the_last_of_equal_places_win() -> None:
    def variants(x: Tensor) -> list[Tensor]:
        return [
            x.scatter(1, INDEX, SOURCE),
            x.scatter(0, INDEX.clamp(max=1), SOURCE),
            x.scatter(1, INDEX[:1, :2], 7.0),
            x.scatter(1, INDEX[:0], SOURCE),
        ]

    # In row 0 the value 7 comes after 6 at place 2.
    assert_agrees(variants, torch.zeros(2, 4))
    assert_agrees(lambda x: x.scatter(0, torch.tensor(0), torch.tensor(4)), torch.tensor(3))


def test_scattered_values_are_reduced_in_every_way() -> None:
    def reduced(x: Tensor) -> list[Tensor]:
        return [
            x.scatter_reduce(1, INDEX, SOURCE.to(x.dtype), kind, include_self=own)
            for kind in ("sum", "prod", "mean", "amax", "amin")
            for own in (True, False)
        ]

    assert_agrees(reduced, torch.tensor([[1.0, 2.0, 3.0, 4.0], [-1.0, math.nan, 2.0, 30.0]]))
    assert_agrees(reduced, torch.tensor([[1, 2, 3, 4], [-1, 0, 2, 30]]))


def test_putting_at_indices_agrees_with_pytorch() -> None:
    rows, columns = torch.tensor([0, -1, 1]), torch.tensor([[1], [3]])

    def variants(x: Tensor) -> list[Tensor]:
        return [
            x.index_put((rows,), torch.ones(4)),
            x.index_put((rows, columns), SOURCE[:2, :3], accumulate=True),
            x.index_put((rows[:2], rows[1:]), torch.tensor(9.0)),
            x.index_put((x > 1,), torch.tensor(0.5)),
            x.index_add(1, rows + 1, SOURCE[:2, :3]),
            x.index_copy(0, torch.tensor([1]), SOURCE[:1]),
            x.index_fill(1, torch.tensor([0, 2]), 3.0),
        ]

    assert_agrees(variants, torch.arange(8.0).reshape(2, 4))


def test_masks_beside_other_indices_are_not_taken_for_numbers() -> None:
    row, flags = torch.tensor([1]), torch.tensor([True, False, False, True])

    def put(x: Tensor) -> Tensor:
        changed = x.clone()
        changed[row, flags] = 9.0
        return changed

    def put_behind(x: Tensor) -> Tensor:
        changed = x.clone()
        changed[:, flags] = 9.0
        return changed

    x = torch.arange(8.0).reshape(2, 4)
    assert_agrees(put, x, externs=["aten.index_put.default"])
    assert_agrees(put_behind, x)
    assert_agrees(put_behind, x.reshape(2, 4, 1).expand(2, 4, 3))


def test_counting_and_searching_agree_with_pytorch() -> None:
    borders = torch.tensor([0.0, 1.0, 1.0, 2.5])
    assert_agrees(lambda x: torch.histc(x, 4, 0.0, 3.0), torch.tensor([0.0, 0.75, 3.0, 4.0, -1.0]))

    def variants(x: Tensor) -> list[Tensor]:
        return [
            torch.bucketize(x, borders),
            torch.bucketize(x, borders, right=True, out_int32=True),
            torch.searchsorted(borders, x, side="right"),
        ]

    assert_agrees(variants, X)
    graph = captured(lambda x: torch.histc(x, 3), X[:1])
    assert interpreted(graph, X[:1])[0].tolist() == torch.histc(X[:1], 3).tolist()


def test_writing_into_a_slice_agrees_with_pytorch() -> None:
    def variants(x: Tensor) -> list[Tensor]:
        return [
            torch.slice_scatter(x, SOURCE[:2], 1, 2, 6),
            torch.slice_scatter(x, SOURCE[:2], 1, 1, 9, 2),
            torch.slice_scatter(x, SOURCE[:2], 1, -4),
            torch.slice_scatter(x, SOURCE[:2, :0], 1, 3, 1, 2),
            torch.select_scatter(x, SOURCE[0, :2], 1, -1),
        ]

    assert_agrees(variants, torch.zeros(2, 9))


def test_the_gradient_of_an_embedding_sums_the_rows_of_each_use() -> None:
    used = torch.tensor([[3, 0, 3], [1, 3, 4]])
    operation = torch.ops.aten.embedding_dense_backward.default

    def gradients(gradient: Tensor) -> list[Tensor]:
        return [operation(gradient, used, 6, padding, False) for padding in (-1, 3)]

    generator = torch.Generator().manual_seed(2)
    gradient = torch.randn(2, 3, 5, generator=generator)
    assert_agrees(gradients, gradient)
    assert "extern" not in operations_used(captured(gradients, gradient))


def test_a_million_entries_are_written_without_comparing_all_pairs() -> None:
    entries = 1 << 20
    places = torch.arange(entries) % 1000

    def counted(x: Tensor) -> Tensor:
        return torch.zeros(1000).scatter_add(0, places, x)

    used = operations_used(captured(counted, torch.ones(entries)))
    assert used["scatter"] == 1
    assert not used.keys() & {"eq", "reduce"}
