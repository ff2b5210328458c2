"""What a person asks of an engine, and the limits that come out of it."""

import math
from dataclasses import dataclass

from banyan.engine.cache.key_value_blocks import blocks_for
from banyan.engine.speculation_options import SpeculationOptions
from banyan.foundation.byte_sizes import parse_bytes
from banyan.foundation.errors import InputError

DEFAULT_TOKEN_BUDGET = 1024

# Programs are compiled for at most so many tokens in one step.
MOST_TOKENS_PER_STEP = 65536
FORMATS = ("int8", "int4", "fp8")
OUTPUT_FORMATS = ("int8", "int4")
ACTIVATIONS = ("plain", "int8")
MODES = ("fast", "deterministic")
DTYPES = ("auto", "float32", "bfloat16")
KV_CACHE_DTYPES = ("auto", "bfloat16", "int8", "fp8", "int4")
TASKS = ("auto", "generate", "embed", "classify", "rerank")
LORA_DTYPES = ("auto", "plain", "int8")

_CHOICES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    ("dtype", DTYPES),
    ("kv_cache_dtype", KV_CACHE_DTYPES),
    ("task", TASKS),
    ("mode", MODES),
    ("quantization", (None, *FORMATS)),
    ("quantization_output", (None, *OUTPUT_FORMATS)),
    ("activation", (None, *ACTIVATIONS)),
    ("lora_dtype", LORA_DTYPES),
)

# Of a server; a request that comes alone may bring more.
MOST_IMAGE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePolicy:
    """How long the queue may be and how fast it should move; None bounds nothing.

    Attributes:
        max_waiting_requests: most answers that wait.
        max_waiting_tokens: most prompt tokens of those that wait.
        first_token_goal_seconds: from arrival to the first token.
        latency_goal_seconds: of one step, and so between the tokens of an answer.
    """

    max_waiting_requests: int | None = None
    max_waiting_tokens: int | None = None
    first_token_goal_seconds: float | None = None
    latency_goal_seconds: float | None = None

    @property
    def most_image_bytes(self) -> float:
        """Of the files of images that unfinished requests brought, together.

        A queue without bounds is that of a caller in this process, who holds the files anyway.
        """
        bounds = (self.max_waiting_requests, self.max_waiting_tokens, self.first_token_goal_seconds)
        return MOST_IMAGE_BYTES if any(bound is not None for bound in bounds) else math.inf

    def __post_init__(self) -> None:
        for name in ("max_waiting_requests", "max_waiting_tokens"):
            if getattr(self, name) is not None:
                _check_positive(name, getattr(self, name))
        for name in ("first_token_goal_seconds", "latency_goal_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(
                    f"{name.replace('_seconds', '_ms')}={1e3 * value:g} cannot be used; give a "
                    "number above 0"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Choices made before a model is loaded; the names are vLLM's where the meaning is the same.

    Attributes:
        device: a device name as `banyan devices` lists it.
        dtype: "float32", "bfloat16", or "auto" (the checkpoint's own, 16-bit kinds as bfloat16).
        threads: CPU threads; None takes one per core.
        memory: most memory of the engine process, such as "8GiB"; None takes what is free.
        max_model_len: longest prompt plus answer in tokens; None takes the model's own limit, or
            what fits into memory when that is less.
        max_num_seqs: most sequences computed together.
        max_num_batched_tokens: most tokens of one step; None chooses.
        max_image_tokens: images are scaled down until they take no more tokens, where the model
            leaves a choice; None takes the model's own limit.
        num_blocks: blocks of 16 tokens in the KV cache; None chooses by free memory.
        quantization: round ordinary weights while loading: "int8", "int4" or "fp8".
        quantization_output: how `quantization` rounds the output matrix, and the embedding where it
            is the same: "int8", or "int4" for speed; None is "int8".
        activation: inputs of quantised layers: "plain", or "int8" to round them too; None takes
            what the checkpoint says, or "int8" for quantization "int8" and "plain" for others.
        kv_cache_dtype: how keys and values are kept: "int8", "fp8" or "int4" rounds them, with
            scales for each token and head; "auto" keeps them as they are computed.
        deferred_experts: how many of the experts that a token visits count one layer later, those
            that its router chose last; 0 computes the model as it was trained.
        seed: makes requests without a seed of their own reproducible, in order of arrival.
        enable_prefix_caching: reuse what was computed for equal beginnings of prompts.
        speculation: guess tokens and check them together; None goes token by token.
        mode: "deterministic" gives a request the same tokens, to the bit of their probabilities,
            whatever is computed beside it; "fast" promises that only where it costs nothing.
        task: "generate", "embed", "classify" or "rerank"; "auto" is what the model's files say.
        swap_space_gb: memory of this machine for cached prompts that no longer fit into the KV
            cache; 0 forgets them.
        prefix_store: a directory for those, and for all when the engine ends: the next start
            finds them. None keeps nothing.
        prefix_store_gb: most that is kept there of one model.
        max_waiting_requests: most answers that may wait for their turn; None has no bound.
        max_waiting_tokens: most prompt tokens of those that wait; None has no bound.
        first_token_goal_ms: answers that would begin later than this after their arrival are
            refused, with the time to come back at; None lets them wait.
        latency_goal_ms: a step computes no more prompt tokens than keep it within this, so that the
            answers being written stay fluent; None only keeps to max_num_batched_tokens.
        enable_lora: make room for low-rank adapters, which requests then choose by name.
        max_loras: adapters that one step can use; others that are loaded take turns.
        max_lora_rank: the largest rank an adapter may have; every slot has room for it.
        lora_dtype: how adapters are stored: "plain" as activations are, "int8" rounded to bytes,
            "auto" rounded where `quantization` rounds the base.
        max_cpu_loras: most adapters that are loaded at once; None sets no limit.
        lora_modules: adapters to start with, as (name, path); they switch `enable_lora` on.
        plan: the text of a plan (`banyan.planner.plan_file`): the model is cut over its devices;
            None computes all on `device`.
        plan_workers: (device of the plan, where it is): "inline:DEVICE" in this process,
            "process:DEVICE" in a worker of this host, "tcp://HOST:PORT" in one that listens;
            others are workers of this host, on the device of their name.
        plan_secret: file with the secret that workers of other hosts share.
    """

    device: str = "cpu"
    dtype: str = "auto"
    threads: int | None = None
    memory: str | None = None
    max_model_len: int | None = None
    max_num_seqs: int = 64
    max_num_batched_tokens: int | None = None
    max_image_tokens: int | None = None
    num_blocks: int | None = None
    quantization: str | None = None
    quantization_output: str | None = None
    activation: str | None = None
    kv_cache_dtype: str = "auto"
    deferred_experts: int = 0
    seed: int | None = None
    enable_prefix_caching: bool = True
    speculation: SpeculationOptions | None = None
    mode: str = "fast"
    task: str = "auto"
    swap_space_gb: float = 0.0
    prefix_store: str | None = None
    prefix_store_gb: float = 8.0
    max_waiting_requests: int | None = None
    max_waiting_tokens: int | None = None
    first_token_goal_ms: float | None = None
    latency_goal_ms: float | None = None
    enable_lora: bool = False
    max_loras: int = 8
    max_lora_rank: int = 16
    lora_dtype: str = "auto"
    max_cpu_loras: int | None = None
    lora_modules: tuple[tuple[str, str], ...] = ()
    plan: str | None = None
    plan_workers: tuple[tuple[str, str], ...] = ()
    plan_secret: str | None = None

    @property
    def has_adapters(self) -> bool:
        """Whether the model gets slots for adapters."""
        return self.enable_lora or bool(self.lora_modules)

    def __post_init__(self) -> None:
        for name, known in _CHOICES:
            if getattr(self, name) not in known:
                listed = ", ".join(one for one in known if one is not None)
                raise InputError(
                    f"{name}={getattr(self, name)!r} is not known; use one of {listed}"
                )
        if self.quantization_output is not None and self.quantization is None:
            raise InputError(
                f"quantization_output={self.quantization_output!r} rounds nothing without "
                "quantization; give that too, or leave it out"
            )
        for name in (
            "threads",
            "max_model_len",
            "max_num_batched_tokens",
            "max_image_tokens",
            "num_blocks",
            "max_cpu_loras",
        ):
            if getattr(self, name) is not None:
                _check_positive(name, getattr(self, name))
        for name in ("max_num_seqs", "max_loras", "max_lora_rank"):
            _check_positive(name, getattr(self, name))
        if self.deferred_experts < 0:
            raise InputError(
                f"deferred_experts={self.deferred_experts} cannot be used; give 0 or more"
            )
        if self.memory is not None:
            parse_bytes(self.memory, name="memory")
        _check_gigabytes("swap_space_gb", self.swap_space_gb)
        _check_gigabytes("prefix_store_gb", self.prefix_store_gb)
        self.queue_policy()

    def queue_policy(self) -> QueuePolicy:
        """Those of the options that say how long the queue may be and how fast it should move."""
        return QueuePolicy(
            max_waiting_requests=self.max_waiting_requests,
            max_waiting_tokens=self.max_waiting_tokens,
            first_token_goal_seconds=_seconds(self.first_token_goal_ms),
            latency_goal_seconds=_seconds(self.latency_goal_ms),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Limits of one engine, checked against each other.

    Attributes:
        max_model_len: longest prompt plus answer, tokens.
        max_num_seqs: most sequences that hold blocks at once.
        token_budget: most tokens of one step; at least `max_num_seqs`, so that each sequence can
            get its token.
        num_blocks: blocks of the KV cache; at least one sequence of full length must fit, so that
            the oldest sequence can always go on.
    """

    max_model_len: int
    max_num_seqs: int
    token_budget: int
    num_blocks: int

    def __post_init__(self) -> None:
        if self.token_budget < self.max_num_seqs:
            raise InputError(
                f"max_num_batched_tokens={self.token_budget} is less than "
                f"max_num_seqs={self.max_num_seqs}; raise the first or lower the second"
            )
        if self.token_budget > MOST_TOKENS_PER_STEP:
            raise InputError(
                f"max_num_batched_tokens={self.token_budget} is more than the "
                f"{MOST_TOKENS_PER_STEP} that one step can take; lower it"
            )
        needed = blocks_for(self.max_model_len)
        if self.num_blocks < needed:
            raise InputError(
                f"num_blocks={self.num_blocks} cannot hold one sequence of "
                f"max_model_len={self.max_model_len} tokens, which takes {needed} blocks; "
                "raise the first or lower the second"
            )


def _check_gigabytes(name: str, size: float) -> None:
    if not 0 <= size < math.inf:
        raise InputError(f"{name}={size} cannot be used; give gigabytes, 0 or more")


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name}={value!r} cannot be used; give a whole number of 1 or more")
