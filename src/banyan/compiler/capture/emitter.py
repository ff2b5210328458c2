"""What every ATen rule writes with: a builder that broadcasts and promotes as PyTorch does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND, elementwise_dtypes
from torch._subclasses.fake_tensor import unset_fake_temporarily

from banyan.compiler.capture.sizes import SizeTable
from banyan.compiler.ir.graph import Builder, Node, Operand
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType
from banyan.foundation.errors import GraphError

Number: TypeAlias = int | float | bool
Results: TypeAlias = Node | tuple[Node, ...]
Rule: TypeAlias = Callable[..., Results]

LARGEST_CONSTANT = 4096
"""Elements up to which a tensor that a program brings along becomes part of the graph's text."""

_DTYPES = {
    torch.float32: DType.FLOAT32,
    torch.bfloat16: DType.BFLOAT16,
    torch.float16: DType.FLOAT16,
    torch.float8_e4m3fn: DType.FLOAT8_E4M3,
    torch.int64: DType.INT64,
    torch.int32: DType.INT32,
    torch.int8: DType.INT8,
    torch.uint8: DType.UINT8,
    torch.bool: DType.BOOL,
}
_TORCH_DTYPES = {ours: theirs for theirs, ours in _DTYPES.items()}


def from_torch_dtype(dtype: torch.dtype) -> DType:
    """Our name of a PyTorch element type.

    Raises:
        GraphError: the compiler does not have it.
    """
    found = _DTYPES.get(dtype)
    if found is None:
        known = ", ".join(str(d).removeprefix("torch.") for d in _DTYPES)
        raise GraphError(
            f"element type {dtype} is not supported; convert to one of {known}, for example with "
            ".float()"
        )
    return found


def to_torch_dtype(dtype: DType) -> torch.dtype:
    """PyTorch's name of one of our element types."""
    return _TORCH_DTYPES[dtype]


@dataclass(slots=True)
class Emitter:
    """Writes the nodes of one ATen call; `result` is the fake value that the call returned."""

    sizes: SizeTable
    builder: Builder = field(default_factory=Builder)
    result: Any = None

    @property
    def shape(self) -> tuple[Dim, ...]:
        """The shape of the call's (first) result."""
        return self.sizes.shape(self._first().shape)

    @property
    def dtype(self) -> DType:
        """The element type of the call's (first) result."""
        return from_torch_dtype(self._first().dtype)

    def _first(self) -> torch.Tensor:
        first = self.result[0] if isinstance(self.result, list | tuple) else self.result
        if not isinstance(first, torch.Tensor):
            raise GraphError(f"expected a tensor result, got {type(first).__name__}")
        return first

    def add(self, op: str, *args: Node, **attrs: Any) -> Node:
        """A node of `op`."""
        return self.builder.add(op, args, **attrs)

    def constant(self, value: Number, dtype: DType, shape: Sequence[Dim] = ()) -> Node:
        """`value` everywhere in a tensor of `shape`."""
        return self.builder.number(value, dtype, shape)

    def iota(self, size: Dim, dtype: DType = DType.INT64) -> Node:
        """0, 1, ..., size - 1."""
        return self.add("iota", size=size, dtype=dtype)

    def data(self, tensor: torch.Tensor) -> Node:
        """A real tensor as part of the graph's text; see `LARGEST_CONSTANT`."""
        dtype = from_torch_dtype(tensor.dtype)
        with unset_fake_temporarily():
            flat = tensor.detach().cpu().reshape(-1)
            values = tuple((flat.float() if dtype.is_floating else flat).tolist())
        return self.add("data", values=values, shape=tuple(tensor.shape), dtype=dtype)

    def operand(self, x: Operand, dtype: DType, shape: Sequence[Dim]) -> Node:
        """A tensor, number or size as a tensor of the given type."""
        if isinstance(x, Node):
            return x.cast(dtype).expand(shape)
        if isinstance(x, int | float):
            return self.constant(x, dtype, shape)
        return self.builder.size(x).cast(dtype).expand(shape)

    def pointwise(self, op: str, *operands: Operand, dtype: DType | None = None) -> Node:
        """`op` with promotion (to `dtype` when given) and broadcast to the result's shape."""
        wanted = promoted(operands) if dtype is None else dtype
        return self.add(op, *(self.operand(x, wanted, self.shape) for x in operands))

    def in_float32(self, x: Node, formula: Callable[[Node], Node]) -> Node:
        """`formula` of `x` in float32, rounded back to the type of `x`."""
        dtype = x.dtype if x.dtype.is_floating else DType.FLOAT32
        return formula(x.cast(DType.FLOAT32)).cast(dtype)


def in_own_types(rule: Rule) -> Rule:
    """The rule with each result cast to the element type that PyTorch gives it."""

    def whole(emit: Emitter, *args: Any) -> Results:
        found = rule(emit, *args)
        if isinstance(found, Node):
            return found.cast(emit.dtype)
        pairs = zip(found, emit.result, strict=True)
        return tuple(
            part if part is None else part.cast(from_torch_dtype(fake.dtype))
            for part, fake in pairs
        )

    return whole


def promoted(operands: Sequence[Operand]) -> DType:
    """The element type PyTorch computes in: sized tensors first, then scalars of a higher kind."""
    with unset_fake_temporarily():
        alike = [_stand_in(x) for x in operands]
        kind = ELEMENTWISE_TYPE_PROMOTION_KIND.DEFAULT
        return from_torch_dtype(elementwise_dtypes(*alike, type_promotion_kind=kind)[1])


def _stand_in(x: Operand) -> torch.Tensor | Number:
    if isinstance(x, Node):
        return torch.empty((1,) * x.tensor.rank, dtype=to_torch_dtype(x.dtype), device="meta")
    return x if isinstance(x, int | float) else 1


def positive_axes(axes: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Axes counted from the front; all of them for None or none."""
    if axes is None or axes == []:
        return tuple(range(rank))
    listed = [axes] if isinstance(axes, int) else axes
    return tuple(sorted(axis % max(rank, 1) for axis in listed)) if rank else ()
