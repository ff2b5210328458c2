"""Options of `banyan serve`, with the words of its help."""

from typing import Annotated

import typer

NameOption = Annotated[
    str | None,
    typer.Option(
        "--served-model-name", help="The name clients ask for; the model's own by default."
    ),
]
BodyOption = Annotated[
    int, typer.Option("--max-body-megabytes", min=1, help="Larger requests are refused.")
]
UntilInputEndsOption = Annotated[
    bool, typer.Option("--until-input-ends", help="Stop when standard input closes.")
]
TemplateOption = Annotated[
    bool,
    typer.Option(
        "--trust-request-chat-template", help="Let requests bring a chat template of their own."
    ),
]
MetricNamesOption = Annotated[
    str,
    typer.Option(
        "--metric-names",
        help="Names in /metrics: ours (banyan), vLLM's where it has one (vllm), or both.",
    ),
]
TracesOption = Annotated[
    str | None,
    typer.Option(
        "--otlp-traces-endpoint",
        help="Send a span for each request here by OTLP over HTTP (needs the extra tracing).",
    ),
]
ToolParserOption = Annotated[
    str,
    typer.Option(
        "--tool-call-parser",
        help="How the model writes tool calls: auto, none, hermes, qwen3_coder, mistral, ...",
    ),
]
MaxImagesOption = Annotated[
    int, typer.Option("--max-images", min=0, help="Most images of one request.")
]
MaxImagePixelsOption = Annotated[
    int,
    typer.Option(
        "--max-image-megapixels", min=1, max=89, help="Most pixels of one image, in millions."
    ),
]
MaxImageTokensOption = Annotated[
    int,
    typer.Option(
        "--max-image-tokens",
        min=1,
        help="Scale images down until they take no more tokens, where the model has a choice.",
    ),
]
ReasoningParserOption = Annotated[
    str,
    typer.Option(
        "--reasoning-parser",
        help="How the model marks its reasoning: auto, none, qwen3, deepseek_r1, mistral, ...",
    ),
]
HostOption = Annotated[str, typer.Option(help="Address to listen on.")]
SequencesOption = Annotated[
    int | None, typer.Option(min=1, help="Most answers computed together; 64 by default.")
]
StepTokensOption = Annotated[int | None, typer.Option(min=1, help="Most tokens of one step.")]
MemoryOption = Annotated[
    str | None,
    typer.Option("--memory", help="Most memory, such as 8GiB; what is free by default."),
]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", help="Options for a purpose: low-latency or throughput."),
]
CallerRequestsOption = Annotated[
    int, typer.Option(min=0, help="Most requests of one caller at a time; 0 for any number.")
]
DrainSecondsOption = Annotated[
    int, typer.Option(min=0, help="How long answers may take to finish after a stop.")
]
AllowSwapOption = Annotated[
    bool, typer.Option("--allow-swap", help="Let POST /v1/admin/swap replace the model.")
]
PrefixOption = Annotated[
    bool,
    typer.Option(
        "--prefix-caching/--no-prefix-caching",
        help="Reuse what was computed for equal beginnings of prompts.",
    ),
]
SwapOption = Annotated[
    float, typer.Option(min=0, help="Gigabytes of memory for cached prompts beside the KV cache.")
]
StoreOption = Annotated[
    str | None, typer.Option(help="A directory for cached prompts; the next start finds them.")
]
StoreSizeOption = Annotated[
    float, typer.Option(min=0, help="Most gigabytes of one model in --prefix-store.")
]
LatencyGoalOption = Annotated[
    float | None,
    typer.Option(help="Prompts wait rather than hold up answers longer than this."),
]
FirstTokenGoalOption = Annotated[
    float | None, typer.Option(help="Refuse (429, 503) what would begin later than this.")
]
WaitingRequestsOption = Annotated[
    int, typer.Option(min=1, help="Most answers that wait; more are refused (429, 503).")
]
WaitingTokensOption = Annotated[
    int | None, typer.Option(min=1, help="Most prompt tokens of those that wait.")
]
SpeculationOption = Annotated[
    str | None,
    typer.Option(
        "--speculative-config",
        metavar="JSON",
        help="""Guess tokens and check them together: '{"method": "ngram"}'.""",
    ),
]
TaskOption = Annotated[
    str,
    typer.Option(
        "--task",
        help="generate, embed, classify or rerank; auto: what the model's files say it is for.",
    ),
]
ModeOption = Annotated[
    str,
    typer.Option(
        "--mode",
        help="fast, or deterministic: an answer does not depend on what is computed beside it.",
    ),
]
CacheOption = Annotated[
    str,
    typer.Option(
        "--kv-cache-dtype",
        help="How keys and values are kept: bfloat16, int8, fp8, int4, or auto: as computed.",
    ),
]
DeferredExpertsOption = Annotated[
    int,
    typer.Option(
        min=0,
        help="Of the experts that a token visits, so many count one layer later.",
    ),
]
QuantizationOption = Annotated[
    str | None,
    typer.Option("--quantization", help="Round weights while loading: int8, int4 or fp8."),
]
OutputFormatOption = Annotated[
    str | None,
    typer.Option("--quantization-output", help="The output matrix then: int8, or int4 for speed."),
]
PortOption = Annotated[
    int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
]
LengthOption = Annotated[
    int | None,
    typer.Option("--max-model-len", min=1, help="Longest prompt plus answer, in tokens."),
]
