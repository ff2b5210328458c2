"""What every type rule of an operation is written with."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from banyan.compiler.ir.types import ValueType
from banyan.foundation.errors import GraphError

Types: TypeAlias = tuple[ValueType, ...]
Attributes: TypeAlias = Mapping[str, Any]
Rule: TypeAlias = Callable[[str, tuple[Any, ...], Attributes], ValueType]


def require(condition: bool, op: str, types: tuple[Any, ...], rule: str) -> None:
    """Refuse arguments that break a rule.

    Raises:
        GraphError: the condition does not hold.
    """
    if not condition:
        raise GraphError(f"{op}({', '.join(str(t) for t in types)}): {rule}")
