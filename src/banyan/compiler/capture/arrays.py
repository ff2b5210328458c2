"""Between tensors and arrays: the only place where results of a program become tensors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch.utils import _pytree as pytree

from banyan.compiler.capture.refusals import cannot_run, changes_argument

Array = np.ndarray[Any, np.dtype[Any]]
Module = torch.nn.Module


def to_array(value: Any) -> Array:
    """A tensor as an array that shares its memory where it can; arrays pass through."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    plain = value.detach().cpu().contiguous()
    if plain.dtype is torch.bfloat16:
        return plain.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    if plain.dtype is torch.float8_e4m3fn:
        return plain.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn)
    found: Array = plain.numpy()
    return found


def to_tensor(array: Array) -> torch.Tensor:
    """A tensor with a copy of the array."""
    plain = np.array(array, order="C")
    if plain.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(plain.view(np.int16)).view(torch.bfloat16)
    if plain.dtype == ml_dtypes.float8_e4m3fn:
        return torch.from_numpy(plain.view(np.uint8)).view(torch.float8_e4m3fn)
    return torch.from_numpy(plain)


def leaves(value: Any) -> list[Any]:
    """The tensors, arrays and numbers in nested containers, in the order of `torch.export`."""
    return list(pytree.tree_leaves(value))


@dataclass(frozen=True, slots=True)
class Nesting:
    """The containers of a result; `present` tells of each place whether it holds more than None."""

    structure: Any
    present: tuple[bool, ...]

    def fill(self, values: Sequence[Any]) -> Any:
        """Values put back into the containers."""
        given = iter(values)
        whole = [next(given) if here else None for here in self.present]
        return pytree.tree_unflatten(whole, self.structure)


def result_nesting(
    module: Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> Nesting:
    """How the results of a module nest; runs it once and puts its buffers back as they were.

    Raises:
        GraphError: the module fails on the example, or changes it.
    """
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    given = leaves((arguments, keywords))
    versions = [_version(value) for value in given]
    with torch.no_grad():
        try:
            found, structure = pytree.tree_flatten(module(*arguments, **keywords))
        except Exception as error:  # whatever the module of somebody else raises
            raise cannot_run(module, error) from error
        for name, buffer in module.named_buffers():
            buffer.copy_(before[name])
    for number, (value, version) in enumerate(zip(given, versions, strict=True)):
        if _version(value) != version:
            raise changes_argument(module, number)
    return Nesting(structure, tuple(leaf is not None for leaf in found))


def _version(value: Any) -> int | None:
    """Changes when somebody writes into a tensor."""
    return value._version if isinstance(value, torch.Tensor) else None


def is_same_constant(left: Any, right: Any) -> bool:
    """Are two arguments that are no tensors the same to a traced program?"""
    if isinstance(left, torch.Tensor) or isinstance(right, torch.Tensor):
        return isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor)
    return type(left) is type(right) and bool(left == right)


class ModuleWeights:
    """The parameters and buffers of a module as a source of weights."""

    def __init__(self, module: Module) -> None:
        self._tensors: dict[str, torch.Tensor] = dict(_named(module))

    def names(self) -> Mapping[str, torch.Tensor]:
        """Every parameter and buffer."""
        return self._tensors

    def read(self, name: str) -> Array:
        """One of them, as an array."""
        return to_array(self._tensors[name])

    def release(self, name: str) -> None:
        """The module keeps its tensors."""


def _named(module: Module) -> Iterator[tuple[str, torch.Tensor]]:
    # Shared parameters are listed under each of their names.
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)
