"""What an operator chooses about the API alone: templates, names of metrics, traces."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from banyan.foundation.errors import InputError
from banyan.gateway.metrics.naming import NAMES, Names
from banyan.gateway.parsing.registry import AUTO, choose_reasoning_parser, choose_tool_parser
from banyan.models.vision.image_prompts import ImageLimits

if TYPE_CHECKING:
    from banyan.gateway.tracing import Tracing


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions:
    """Choices that never reach the engine.

    Attributes:
        trust_request_chat_template: let requests bring a chat template of their own.
        metric_names: whose names metrics have.
        traces_endpoint: a collector of OpenTelemetry spans; None makes no spans.
        tool_call_parser: how the model writes calls of tools; "auto" asks its chat template.
        reasoning_parser: how it marks its reasoning; "auto" asks its chat template.
        image_limits: how much of images one request may bring.
    """

    trust_request_chat_template: bool = False
    metric_names: Names = "both"
    traces_endpoint: str | None = None
    tool_call_parser: str = AUTO
    reasoning_parser: str = AUTO
    image_limits: ImageLimits = field(default_factory=ImageLimits)

    def open_tracing(self, *, model_name: str) -> "Tracing | None":
        """Make the spans' way out, or nothing when no collector is named.

        Raises:
            InputError: the libraries for it are not installed.
        """
        if self.traces_endpoint is None:
            return None
        try:
            from banyan.gateway.tracing import otlp_tracing  # noqa: PLC0415
        except ImportError as error:
            raise InputError(
                "--otlp-traces-endpoint needs OpenTelemetry; install banyan-compute[tracing]"
            ) from error
        return otlp_tracing(self.traces_endpoint, service_name="banyan", model_name=model_name)


def api_options(
    trust_request_chat_template: bool,
    metric_names: str,
    traces_endpoint: str | None,
    parsers: tuple[str, str] = (AUTO, AUTO),
    image_limits: ImageLimits | None = None,
) -> ApiOptions:
    """Read the options of the command line; `parsers` are those of tool calls and of reasoning.

    Raises:
        InputError: there is no such choice of names, or no such parser.
    """
    tool_call_parser, reasoning_parser = parsers
    choose_tool_parser(tool_call_parser, "")
    choose_reasoning_parser(reasoning_parser, "")
    for names in NAMES:
        if metric_names == names:
            return ApiOptions(
                trust_request_chat_template=trust_request_chat_template,
                metric_names=names,
                traces_endpoint=traces_endpoint,
                tool_call_parser=tool_call_parser,
                reasoning_parser=reasoning_parser,
                image_limits=image_limits or ImageLimits(),
            )
    raise InputError(f"--metric-names={metric_names!r} is not known; use one of {', '.join(NAMES)}")
