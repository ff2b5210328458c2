"""Fields of chat requests about tools the model may call, and about its reasoning."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from banyan.gateway.errors import refuse
from banyan.gateway.wire.structure import StructureFields

MAX_TOOLS = 128
TOOL_CHOICES = ("none", "auto", "required")
ALLOWED_MODES = ("auto", "required")
REASONING_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
# Names of OpenAI, and dots and colons, which tools of MCP servers have.
_NAME = re.compile(r"[a-zA-Z0-9_.:-]{1,128}")


class FunctionDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function the model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool; only functions are served."""

    type: str
    function: FunctionDefinition


class ChosenFunction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The function that must be called."""

    name: str


class NamedToolChoice(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="function",
):
    """A tool that must be called."""

    function: ChosenFunction


class AllowedTool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the tools that may be called."""

    type: str = "function"
    function: ChosenFunction


class AllowedTools(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some of the tools, and whether one of them must be called (`auto`, `required`)."""

    mode: str
    tools: list[AllowedTool]


class AllowedToolsChoice(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="allowed_tools",
):
    """The model is told of these tools only."""

    allowed_tools: AllowedTools

    def names(self) -> list[str]:
        """Names of the tools that may be called."""
        return [tool.function.name for tool in self.allowed_tools.tools]


ToolChoice = str | NamedToolChoice | AllowedToolsChoice


class ToolFields(StructureFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tools and reasoning; `include_reasoning` is vLLM's."""

    not_served: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "functions": ([],),
        "function_call": ("none", "auto"),
    }

    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Any = None
    function_call: Any = None
    reasoning_effort: str | None = None
    include_reasoning: bool | None = None

    def check(self) -> None:
        """Refuse tools that cannot be told apart and choices that name none of them."""
        super().check()
        tools = self.tools or []
        if len(tools) > MAX_TOOLS:
            raise refuse(
                f"tools has {len(tools)} entries; at most {MAX_TOOLS} are allowed",
                parameter="tools",
            )
        _check_tools(tools)
        _check_choice(self.tool_choice, tools)
        effort = self.reasoning_effort
        if effort is not None and effort not in REASONING_EFFORTS:
            raise refuse(
                f"reasoning_effort is {effort!r}; use one of {', '.join(REASONING_EFFORTS)}",
                parameter="reasoning_effort",
            )


def _check_tools(tools: Sequence[Tool]) -> None:
    names: set[str] = set()
    for index, tool in enumerate(tools):
        place = f"tools[{index}]"
        if tool.type != "function":
            raise refuse(
                f"{place}.type is {tool.type!r}; only 'function' is served",
                parameter=f"{place}.type",
                code="unsupported_parameter",
            )
        name = tool.function.name
        if not _NAME.fullmatch(name):
            raise refuse(
                f"{place}.function.name is {name[:80]!r}; use 1 to 128 letters, digits and "
                "any of _.:-",
                parameter=f"{place}.function.name",
            )
        if name in names:
            raise refuse(
                f"{place}.function.name is {name!r} for the second time; names must differ",
                parameter=f"{place}.function.name",
            )
        names.add(name)


def _check_choice(choice: ToolChoice | None, tools: Sequence[Tool]) -> None:
    known = [tool.function.name for tool in tools]
    if isinstance(choice, NamedToolChoice):
        _check_known(choice.function.name, known, "tool_choice.function.name")
    elif isinstance(choice, AllowedToolsChoice):
        place = "tool_choice.allowed_tools"
        if choice.allowed_tools.mode not in ALLOWED_MODES:
            raise refuse(
                f"{place}.mode is {choice.allowed_tools.mode!r}; use auto or required",
                parameter=f"{place}.mode",
            )
        if not choice.allowed_tools.tools:
            raise refuse(f"{place}.tools is empty; name one", parameter=f"{place}.tools")
        for index, name in enumerate(choice.names()):
            _check_known(name, known, f"{place}.tools[{index}].function.name")
    elif choice is not None and choice not in TOOL_CHOICES:
        raise refuse(
            f"tool_choice is {choice!r}; use one of {', '.join(TOOL_CHOICES)}, or name a function",
            parameter="tool_choice",
        )
    elif choice == "required" and not tools:
        raise refuse("tool_choice is 'required', but no tools were given", parameter="tool_choice")


def _check_known(name: str, known: Sequence[str], place: str) -> None:
    if name not in known:
        raise refuse(
            f"tool_choice names {name!r}, which is none of the tools "
            f"({', '.join(known) or 'none were given'})",
            parameter=place,
        )
