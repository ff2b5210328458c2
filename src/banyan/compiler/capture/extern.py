"""Operations that stay calls to PyTorch: how they are written in a graph, and how they run.

An `extern` node has the tensors as arguments, `target` (the overload, for example
"aten.sort.default") and `static`: one entry for each other argument, so that the call can be put
together again. Entries: ("tensor", position), ("value", number or text or None), ("size", dim),
("dtype", type), ("list", (entries...)), and ("keyword", name, entry).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from banyan.compiler.capture.arrays import Array, to_array, to_tensor
from banyan.compiler.capture.emitter import Emitter, from_torch_dtype, to_torch_dtype
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Expression, evaluate
from banyan.compiler.ir.types import DType, TensorType
from banyan.foundation.errors import GraphError


def write_extern(
    emit: Emitter,
    target: str,
    values: Sequence[Any],
    keywords: Mapping[str, Any],
    reason: str,
    instance: int | None = None,
) -> Any:
    """The node that calls `target` with these values (our nodes, sizes and constants).

    Results that PyTorch leaves out are None. `reason` says why it is no operation of ours; reports
    show it. `instance` tells calls apart that draw random numbers.
    """
    tensors: list[Node] = []
    entries = [_encode(value, tensors) for value in values]
    entries += [("keyword", name, _encode(value, tensors)) for name, value in keywords.items()]
    several = isinstance(emit.result, list | tuple)
    fakes = list(emit.result) if several else [emit.result]
    types = tuple(_fake_type(emit, fake) for fake in fakes if fake is not None)
    attrs: dict[str, Any] = {
        "target": target,
        "static": tuple(entries),
        "types": types,
        "reason": reason,
    }
    if instance is not None:
        attrs["instance"] = instance
    node = emit.add("extern", *tensors, **attrs)
    if not several:
        return node
    present = iter(range(len(types)))
    return tuple(
        None
        if fake is None
        else node
        if len(types) == 1
        else node.apply("get", index=next(present))
        for fake in fakes
    )


def _fake_type(emit: Emitter, fake: Any) -> TensorType:
    if not isinstance(fake, torch.Tensor):
        raise GraphError(f"an operation that returns {type(fake).__name__} cannot be captured")
    return TensorType(emit.sizes.shape(fake.shape), from_torch_dtype(fake.dtype))


def _encode(value: Any, tensors: list[Node]) -> tuple[Any, ...]:
    if isinstance(value, Node):
        tensors.append(value)
        return ("tensor", len(tensors) - 1)
    if isinstance(value, list | tuple):
        return ("list", tuple(_encode(item, tensors) for item in value))
    if isinstance(value, Expression):
        return ("size", value)
    if isinstance(value, torch.dtype):
        return ("dtype", from_torch_dtype(value))
    if value is None or isinstance(value, bool | int | float | str):
        return ("value", value)
    # Devices, layouts and memory formats mean nothing here.
    return ("value", None)


def run_extern(
    target: str, static: tuple[Any, ...], arrays: Sequence[Array], sizes: Mapping[str, int]
) -> tuple[Array, ...]:
    """Call PyTorch.

    Raises:
        GraphError: PyTorch has no such operation.
    """
    tensors = [to_tensor(array) for array in arrays]
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for entry in static:
        if entry[0] == "keyword":
            keywords[entry[1]] = _decode(entry[2], tensors, sizes)
        else:
            positional.append(_decode(entry, tensors, sizes))
    results = _find(target)(*positional, **keywords)
    listed = results if isinstance(results, list | tuple) else [results]
    return tuple(to_array(result) for result in listed if result is not None)


def _find(target: str) -> Callable[..., Any]:
    namespace, name, overload = target.split(".")
    try:
        found: Callable[..., Any] = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    except AttributeError as error:
        raise GraphError(f"PyTorch has no operation {target}") from error
    return found


def _decode(entry: tuple[Any, ...], tensors: Sequence[Any], sizes: Mapping[str, int]) -> Any:
    kind, value = entry
    if kind == "tensor":
        return tensors[value]
    if kind == "list":
        return [_decode(item, tensors, sizes) for item in value]
    if kind == "size":
        return evaluate(value, sizes)
    if kind == "dtype":
        return to_torch_dtype(DType(value))
    return value
