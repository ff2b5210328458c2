"""What a model will take of memory, told before its weights are read. Pure."""

from dataclasses import dataclass

from banyan.compiler.executable import Executable
from banyan.devices.cpu import CpuDevice
from banyan.devices.device import Device
from banyan.engine.cache.key_value_blocks import blocks_for
from banyan.engine.options import DEFAULT_TOKEN_BUDGET, EngineLimits, EngineOptions
from banyan.engine.starting.cache_size import CacheShape, choose_limits
from banyan.engine.tokens.prompt_scores import ROWS_AT_ONCE
from banyan.foundation.byte_sizes import parse_bytes, show_bytes
from banyan.foundation.errors import InputError

PROCESS_BYTES = 200 * 10**6
"""Interpreter, libraries, tokenizer and tables of an engine process, by measurement."""

SHARE_OF_FREE_MEMORY = 0.6
"""Of what is free after the weights, the cache takes this; the rest is for the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """How much an engine process may take, and what must fit.

    Attributes:
        limit_bytes: most bytes the process may hold.
        asked: the limit as a person gave it ("8GiB"); None when it is what the machine has free.
        weights_bytes: packed weights.
        working_bytes: arrays of a step and scratch of the threads.
        process_bytes: everything else.
    """

    limit_bytes: int
    asked: str | None
    weights_bytes: int
    working_bytes: int
    process_bytes: int = PROCESS_BYTES

    @property
    def cache_bytes(self) -> int:
        """Most bytes of KV cache: all that is left of a limit somebody set, else a share of it."""
        taken = self.weights_bytes + self.working_bytes + self.process_bytes
        left = max(0, self.limit_bytes - taken)
        return left if self.asked is not None else int(left * SHARE_OF_FREE_MEMORY)

    def limits(self, options: EngineOptions, shape: CacheShape, *, longest: int) -> EngineLimits:
        """Choose the limits of an engine that fits; raises as `check` and `choose_limits`."""
        self.check(smallest_cache_bytes(options, shape))
        return choose_limits(options, shape, longest=longest, cache_bytes=self.cache_bytes)

    def check(self, cache_bytes: int) -> None:
        """Refuse a model that does not fit beside `cache_bytes` of KV cache.

        Raises:
            InputError: with every number of the sum.
        """
        parts = {
            "weights": self.weights_bytes,
            "arrays of a step": self.working_bytes,
            "KV cache": cache_bytes,
            "the process": self.process_bytes,
        }
        total = sum(parts.values())
        if total <= self.limit_bytes:
            return
        listed = ", ".join(f"{show_bytes(size)} for {name}" for name, size in parts.items())
        allowed = f"memory={self.asked} allows" if self.asked is not None else "there are"
        advice = "allow more" if self.asked is not None else "free memory"
        raise InputError(
            f"the model needs {show_bytes(total)} of memory ({listed}), but {allowed} "
            f"{show_bytes(self.limit_bytes)}; {advice}, lower max_model_len or max_num_seqs, or "
            "round the weights with quantization"
        )


def largest_step(options: EngineOptions, *, longest: int) -> dict[str, int]:
    """The most of every size of a decoder's step; `longest` is the model's own limit in tokens.

    Only tokens that are sampled or checked have logits, and a prompt's in small groups.
    """
    num_tokens = options.max_num_batched_tokens or max(DEFAULT_TOKEN_BUDGET, options.max_num_seqs)
    speculation = options.speculation
    num_drafts = 0 if speculation is None else speculation.num_speculative_tokens
    num_wanted = max(ROWS_AT_ONCE, options.max_num_seqs * (1 + num_drafts))
    return {
        "num_tokens": num_tokens,
        "num_sequences": min(num_tokens, options.max_num_seqs),
        "num_table_blocks": blocks_for(min(options.max_model_len or longest, longest)),
        "num_logit_rows": min(num_tokens, num_wanted),
    }


def plan_memory(
    options: EngineOptions, executable: Executable, device: Device, *, free_bytes: int, longest: int
) -> MemoryPlan:
    """Say what a compiled model will take.

    Args:
        options: of the engine.
        executable: without weights yet.
        device: it runs on.
        free_bytes: what the machine has without it.
        longest: the model's own limit in tokens.
    """
    asked = None if options.memory is None else parse_bytes(options.memory, name="memory")
    is_cpu = isinstance(device, CpuDevice)
    num_threads = device.num_threads if isinstance(device, CpuDevice) else 1
    of_step = executable.step_bytes(largest_step(options, longest=longest))
    return MemoryPlan(
        limit_bytes=free_bytes if asked is None else min(asked, free_bytes),
        asked=options.memory if asked is not None and asked <= free_bytes else None,
        weights_bytes=executable.weight_bytes,
        working_bytes=of_step + num_threads * executable.report.scratch_bytes,
        process_bytes=PROCESS_BYTES if is_cpu else 0,
    )


def smallest_cache_bytes(options: EngineOptions, shape: CacheShape) -> int:
    """The KV cache without which nothing that the options ask for can be served."""
    num_blocks = options.num_blocks or blocks_for(options.max_model_len or 1)
    return num_blocks * shape.bytes_per_block
