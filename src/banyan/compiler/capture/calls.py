"""One ATen call of an FX graph becomes nodes of ours: by its rule, or as a call to PyTorch."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from banyan.compiler.capture.aten import RULES
from banyan.compiler.capture.emitter import Emitter
from banyan.compiler.capture.extern import write_extern
from banyan.foundation.errors import GraphError

IGNORED = frozenset(
    {
        "aten._assert_tensor_metadata.default",
        "aten._assert_scalar.default",
        "aten._assert_async.msg",
    }
)


def source_line(node: Any) -> str:
    """Where in the user's module a traced node came from, in brackets; "" if that is unknown."""
    lines = [line.strip() for line in str(node.meta.get("stack_trace") or "").splitlines()]
    files = [i for i, line in enumerate(lines[:-1]) if line.startswith("File ")]
    found = re.match(r'File "(.*)", line (\d+)', lines[files[-1]]) if files else None
    return f" ({Path(found[1]).name}:{found[2]}: {lines[files[-1] + 1]})" if found else ""


@dataclass(slots=True)
class CallWriter:
    """Writes calls with one emitter; `values` holds what each FX node became.

    That is a node of ours, a tuple of them, a size or a plain number.
    """

    emit: Emitter
    values: dict[Any, Any] = field(default_factory=dict)
    num_random: int = 0

    def write(self, node: Any) -> None:
        """Translate one `call_function` node.

        Raises:
            GraphError: neither a rule nor an extern node can say it.
        """
        self.emit.result = node.meta.get("val")
        try:
            self.values[node] = self._call(node)
        except GraphError as error:
            raise GraphError(f"{node.target}{source_line(node)}: {error}") from error

    def _call(self, node: Any) -> Any:
        values = pytree.tree_map_only(torch.fx.Node, self.values.__getitem__, list(node.args))
        keywords = pytree.tree_map_only(torch.fx.Node, self.values.__getitem__, dict(node.kwargs))
        known = isinstance(self.emit.result, torch.SymInt | int | bool | float)
        if not isinstance(node.target, torch._ops.OpOverload):
            if known:
                return self.number(self.emit.result)
            if node.target.__name__ == "getitem":
                return values[0][values[1]]
            raise GraphError(f"cannot capture a call of {node.target.__name__}")
        if str(node.target) in IGNORED:
            return None
        if known:
            return self.number(self.emit.result)
        return self._rewrite(node, values, keywords)

    def _rewrite(self, node: Any, values: list[Any], keywords: dict[str, Any]) -> Any:
        operation, reason = node.target, "there is no rule for it"
        rule = RULES.get(str(operation))
        if rule is not None:
            whole = [
                values[i] if i < len(values) else keywords.get(a.name, a.default_value)
                for i, a in enumerate(operation._schema.arguments)
            ]
            try:
                return rule(self.emit, *whole)
            except GraphError as error:
                # A use the rule does not know; PyTorch does.
                reason = str(error)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                reason = f"its rule does not know this use: {error}"
        instance = None
        if torch.Tag.nondeterministic_seeded in operation.tags:
            # Two draws are two nodes, however alike their arguments.
            self.num_random += 1
            instance = self.num_random
        why = reason + source_line(node)
        return write_extern(self.emit, str(operation), values, keywords, why, instance)

    def number(self, value: Any) -> Any:
        """A size or plain number as rules take it."""
        return self.emit.sizes.dim(value) if isinstance(value, torch.SymInt) else value
