"""What every type rule of an operation is written with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType, TensorType, ValueType
from banyan.foundation.errors import GraphError


@dataclass(frozen=True, slots=True)
class Call:
    """An operation with the types of its arguments, for a rule to judge."""

    op: str
    types: tuple[Any, ...]
    attrs: Mapping[str, Any]

    def require(self, condition: bool, rule: str) -> None:
        """Refuse arguments that break a rule.

        Raises:
            GraphError: the condition does not hold.
        """
        if not condition:
            raise GraphError(f"{self.op}({', '.join(str(t) for t in self.types)}): {rule}")

    @property
    def first(self) -> TensorType:
        """The type of the first argument."""
        found: TensorType = self.types[0]
        return found

    def like(self, shape: tuple[Dim, ...], dtype: DType | None = None) -> TensorType:
        """The type of the first argument with another shape, and element type if given."""
        return TensorType(shape, dtype or self.first.dtype, self.first.space)


Rule: TypeAlias = Callable[[Call], ValueType]
