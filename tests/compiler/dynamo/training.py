"""Compare a compiled module with the same module run by PyTorch: losses, gradients, steps."""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from banyan.compiler.dynamo.backend import BanyanFallback, banyan
from banyan.devices.native import Missing, find_compiler

Loss = Callable[[Any], Tensor]

needs_compiler = pytest.mark.skipif(isinstance(find_compiler(), Missing), reason="no C++ compiler")


def compiled(module: Any, **options: Any) -> Any:
    """The module behind our backend; falling back is an error."""
    torch._dynamo.reset()
    return torch.compile(module, backend=banyan, options={"optimise": False}, **options)


def own_loss(result: Any) -> Tensor:
    """A number that every element of the results moves, by another amount."""
    found = result.loss if getattr(result, "loss", None) is not None else result
    if isinstance(found, Tensor) and found.ndim == 0:
        return found
    parts = [x for x in torch.utils._pytree.tree_leaves(result) if isinstance(x, Tensor)]
    total = torch.zeros(())
    for part in parts:
        weights = torch.linspace(-1.0, 1.5, part.numel()).reshape(part.shape)
        total = total + (part.float() * weights).sum() / part.numel()
    return total


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.float() for n, p in module.named_parameters() if p.grad is not None}


def assert_trains_like_eager(
    module: torch.nn.Module,
    arguments: Sequence[Any],
    tolerance: float = 1e-4,
    **keywords: Any,
) -> None:
    """The same loss and the same gradient of every parameter, with no fallback."""
    mine = copy.deepcopy(module)
    with warnings.catch_warnings():
        warnings.simplefilter("error", BanyanFallback)
        found = own_loss(compiled(mine)(*arguments, **keywords))
        found.backward()  # type: ignore[no-untyped-call]
    wanted = own_loss(module(*arguments, **keywords))
    wanted.backward()  # type: ignore[no-untyped-call]
    assert_close(found, wanted, tolerance, "loss")
    expected, given = gradients(module), gradients(mine)
    assert expected
    assert given.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(given[name], value, tolerance, name)


def assert_close(found: Any, wanted: Any, tolerance: float, name: str) -> None:
    """Within `tolerance`, absolute for small values and relative for large ones."""
    torch.testing.assert_close(
        found.detach().float(), wanted.detach().float(), rtol=tolerance, atol=tolerance,
        msg=lambda text: f"{name}: {text}",
    )  # fmt: skip
