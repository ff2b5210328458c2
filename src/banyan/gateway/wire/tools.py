"""Fields of chat requests about tools the model may call, and about its reasoning."""

from collections.abc import Mapping
from typing import Any, ClassVar

from banyan.gateway.wire.structure import StructureFields


class ToolFields(StructureFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tools and reasoning; none of them are served yet."""

    not_served: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "reasoning_effort": (),
    }

    parallel_tool_calls: bool | None = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    reasoning_effort: Any = None
