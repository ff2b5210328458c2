"""The names of all metrics, what they mean and how they are counted. Data only.

`docs/http_api.md` lists them from here.
"""

from dataclasses import dataclass
from typing import Literal

from banyan.engine.step_sizes import SIZES

Kind = Literal["gauge", "counter", "histogram"]

_FIRST_TOKEN = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_NEXT_TOKEN = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5)
_WHOLE = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
_ANSWERS = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric.

    Attributes:
        kind: as Prometheus knows it; a counter's name ends in `_total` when it is read.
        ours: our name without `banyan_`, None when vLLM's is all there is.
        vllm: vLLM's names without `vllm:`, the newest first; empty when it has nothing alike.
        meaning: one sentence.
        labels: further labels; vLLM's names also carry `model_name` and `engine`.
        buckets: of a histogram, upper bounds.
    """

    kind: Kind
    ours: str | None
    vllm: tuple[str, ...] = ()
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# What the engine counts: the key is a name of `engine_collector.READINGS`.
ENGINE: dict[str, Family] = {
    "ready": Family(kind="gauge", ours="engine_ready", meaning="1 when the engine answers."),
    "restarts": Family(
        kind="counter", ours="engine_restarts", meaning="Times the engine was started again."
    ),
    "waiting": Family(
        kind="gauge",
        ours="requests_waiting",
        vllm=("num_requests_waiting",),
        meaning="Answers in the queue.",
    ),
    "running": Family(
        kind="gauge",
        ours="requests_running",
        vllm=("num_requests_running",),
        meaning="Answers being computed.",
    ),
    "blocks_free": Family(
        kind="gauge", ours="blocks_free", meaning="Blocks of the KV cache that nobody holds."
    ),
    "blocks": Family(kind="gauge", ours="blocks", meaning="Blocks of the KV cache in all."),
    "cache_usage": Family(
        kind="gauge",
        ours="cache_usage_ratio",
        vllm=("kv_cache_usage_perc", "gpu_cache_usage_perc"),
        meaning="Share of the blocks that somebody holds, 0 to 1.",
    ),
    "prompt_tokens": Family(
        kind="counter",
        ours="prompt_tokens",
        meaning="Prompt tokens computed, those computed again included.",
    ),
    "generated_tokens": Family(
        kind="counter",
        ours="generated_tokens",
        vllm=("generation_tokens",),
        meaning="Tokens written.",
    ),
    "preemptions": Family(
        kind="counter",
        ours="preemptions",
        vllm=("num_preemptions",),
        meaning="Answers set back for want of blocks.",
    ),
    "steps": Family(kind="counter", ours="steps", meaning="Steps that ran the model."),
    "cache_queries": Family(
        kind="counter",
        ours="prefix_cache_queries",
        vllm=("prefix_cache_queries", "gpu_prefix_cache_queries"),
        meaning="Prompt tokens looked for among cached prompts.",
    ),
    "cache_hits": Family(
        kind="counter",
        ours="prefix_cache_hits",
        vllm=("prefix_cache_hits", "gpu_prefix_cache_hits"),
        meaning="Prompt tokens found among cached prompts.",
    ),
    "drafted": Family(
        kind="counter",
        ours="tokens_drafted",
        vllm=("spec_decode_num_draft_tokens",),
        meaning="Guessed tokens that the model checked.",
    ),
    "accepted": Family(
        kind="counter",
        ours="tokens_accepted",
        vllm=("spec_decode_num_accepted_tokens",),
        meaning="Guessed tokens that were right.",
    ),
    "images_asked": Family(
        kind="counter",
        ours="images_asked",
        meaning="Images of the answers that began to run.",
    ),
    "images_encoded": Family(
        kind="counter",
        ours="images_encoded",
        meaning="Images that were turned into rows, not found in the cache.",
    ),
    "image_rows": Family(
        kind="counter", ours="image_rows", meaning="Rows that images were turned into."
    ),
    "image_seconds": Family(
        kind="counter",
        ours="image_encode_seconds",
        meaning="Time that turning images into rows took, between steps.",
    ),
}

STEP_TOKENS = Family(
    kind="histogram",
    ours="step_tokens",
    vllm=("iteration_tokens_total",),
    meaning="Tokens of a step that ran the model, of prompts and answers together.",
    buckets=SIZES,
)
CACHE_CONFIG = Family(
    kind="gauge",
    ours=None,
    vllm=("cache_config_info",),
    meaning="Always 1; its labels say how the KV cache is kept.",
    labels=("block_size", "cache_dtype", "enable_prefix_caching", "swap_space", "num_gpu_blocks"),
)
ADAPTERS_IN_USE = Family(
    kind="gauge",
    ours=None,
    vllm=("lora_requests_info",),
    meaning="The time; its labels say which adapters are used, and waited for, by answers.",
    labels=("max_lora", "running_lora_adapters", "waiting_lora_adapters"),
)
REQUESTS = Family(
    kind="counter",
    ours="requests",
    meaning="HTTP requests answered, by path and status.",
    labels=("route", "status"),
)
IN_FLIGHT = Family(
    kind="gauge", ours="requests_in_flight", meaning="HTTP requests that are not answered yet."
)
READ_TOKENS = Family(
    kind="counter",
    ours=None,
    vllm=("prompt_tokens",),
    meaning="Tokens of the prompts answered, cached ones included.",
)
ENDED = Family(
    kind="counter",
    ours="answers_ended",
    vllm=("request_success",),
    meaning="Answers that ended, by reason: stop, length, error, or abort when the reader left.",
    labels=("finished_reason",),
)
FIRST_TOKEN = Family(
    kind="histogram",
    ours="time_to_first_token_seconds",
    vllm=("time_to_first_token_seconds",),
    meaning="From the request's arrival to the first token of an answer.",
    buckets=_FIRST_TOKEN,
)
NEXT_TOKEN = Family(
    kind="histogram",
    ours="inter_token_latency_seconds",
    vllm=("inter_token_latency_seconds", "time_per_output_token_seconds"),
    meaning="Between two tokens of an answer.",
    buckets=_NEXT_TOKEN,
)
MEAN_NEXT_TOKEN = Family(
    kind="histogram",
    ours="time_per_output_token_seconds",
    vllm=("request_time_per_output_token_seconds",),
    meaning="Mean time between the tokens of one answer after its first.",
    buckets=_NEXT_TOKEN,
)
END_TO_END = Family(
    kind="histogram",
    ours="request_latency_seconds",
    vllm=("e2e_request_latency_seconds",),
    meaning="From the request's arrival to the end of its last answer.",
    buckets=_WHOLE,
)
QUEUED = Family(
    kind="histogram",
    ours="queue_seconds",
    vllm=("request_queue_time_seconds",),
    meaning="From the engine's hearing of a prompt to its first step.",
    buckets=_WHOLE,
)
PREFILL = Family(
    kind="histogram",
    ours="prefill_seconds",
    vllm=("request_prefill_time_seconds",),
    meaning="From the prompt's first step to the first token.",
    buckets=_WHOLE,
)
DECODE = Family(
    kind="histogram",
    ours="decode_seconds",
    vllm=("request_decode_time_seconds",),
    meaning="From the first token to the last.",
    buckets=_WHOLE,
)
INFERENCE = Family(
    kind="histogram",
    ours="inference_seconds",
    vllm=("request_inference_time_seconds",),
    meaning="From the prompt's first step to the last token.",
    buckets=_WHOLE,
)
PROMPT_LENGTH = Family(
    kind="histogram",
    ours="request_prompt_tokens",
    vllm=("request_prompt_tokens",),
    meaning="Tokens of a prompt.",
    buckets=_TOKENS,
)
ANSWER_LENGTH = Family(
    kind="histogram",
    ours="request_generated_tokens",
    vllm=("request_generation_tokens",),
    meaning="Tokens of an answer.",
    buckets=_TOKENS,
)
ASKED_ANSWERS = Family(
    kind="histogram",
    ours="request_choices",
    vllm=("request_params_n",),
    meaning="Answers asked for with one prompt.",
    buckets=_ANSWERS,
)
ASKED_TOKENS = Family(
    kind="histogram",
    ours="request_max_tokens",
    vllm=("request_params_max_tokens",),
    meaning="Most tokens asked for of one answer, where a limit was given.",
    buckets=_TOKENS,
)

POOLED = Family(
    kind="counter",
    ours="prompts_pooled",
    meaning="Prompts that were turned into a vector or into scores.",
)
HEARD = Family(
    kind="counter", ours="sound_seconds", meaning="Seconds of sound that were written down."
)

OBSERVED: tuple[Family, ...] = (
    REQUESTS,
    IN_FLIGHT,
    READ_TOKENS,
    ENDED,
    FIRST_TOKEN,
    NEXT_TOKEN,
    MEAN_NEXT_TOKEN,
    END_TO_END,
    QUEUED,
    PREFILL,
    DECODE,
    INFERENCE,
    PROMPT_LENGTH,
    ANSWER_LENGTH,
    ASKED_ANSWERS,
    ASKED_TOKENS,
    POOLED,
    HEARD,
)


def all_families() -> tuple[Family, ...]:
    """Every metric there is, those of the engine first."""
    return (*ENGINE.values(), STEP_TOKENS, CACHE_CONFIG, ADAPTERS_IN_USE, *OBSERVED)
