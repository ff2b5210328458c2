"""Compile a module of somebody else, run it, and compare it with itself run by PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

import banyan
from banyan.compiler.report import CompileReport
from banyan.devices.native import Missing, find_compiler
from tests.compiler.zoo.models import ZooModel

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""Largest difference as a share of the largest value of a result."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Attributes:
    errors: for each length the largest difference as a share of the largest value.
    report: what compiling did.
    """

    errors: Mapping[int, float]
    report: CompileReport


def in_dtype(value: Any, dtype: torch.dtype) -> Any:
    """Tensors of fractions in another element type; everything else as it is."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.to(dtype)
    return value


def compare(
    model: ZooModel, target: str, dtype: torch.dtype, device: str | None = None
) -> Comparison:
    """Compile `model` and call it at each of its lengths."""
    module = model.build().to(dtype)
    example = pytree.tree_map(lambda v: in_dtype(v, dtype), model.arguments(model.lengths[0]))
    compiled = banyan.compile(
        module, (), target, model.shapes(), example_kwargs=example, device=device
    )
    errors = {}
    for length in model.lengths:
        given = pytree.tree_map(lambda v: in_dtype(v, dtype), model.arguments(length))
        with torch.no_grad():
            wanted = module(**given)
        errors[length] = largest_error(compiled(**given), wanted)
    report = compiled.report()
    compiled.close()
    return Comparison(errors, report)


def check(model: ZooModel, target: str, dtype: torch.dtype) -> None:
    """The model agrees with PyTorch at every length, and nothing is left to PyTorch."""
    if target == "cpp" and isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    found = compare(model, target, dtype)
    assert found.report.externs == ()
    assert list(found.errors) == list(model.lengths)
    assert max(found.errors.values()) <= TOLERANCES[dtype], found.errors


def largest_error(found: Any, wanted: Any) -> float:
    """Over all tensors: the largest difference as a share of the largest wanted value."""
    left, structure = pytree.tree_flatten(found)
    right, expected = pytree.tree_flatten(wanted)
    assert structure == expected
    worst = 0.0
    for a, b in zip(left, right, strict=True):
        assert type(a) is type(b)
        if isinstance(b, torch.Tensor):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            difference = (a.double() - b.double()).abs()
            assert not difference.isnan().any(), "NaN on one side only, or on both"
            worst = max(worst, float(difference.max()) / max(1e-30, float(b.double().abs().max())))
    return worst
