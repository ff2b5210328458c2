"""The steps that a workload asks of a model under continuous batching. Pure.

A step answers `num_sequences` with a token each, and takes a chunk of a prompt along where one
waits. In the long run every answer token brings prompt tokens / answer tokens new ones with it.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from banyan.planner.costs import StepShape, decode_step
from banyan.planner.workload import Workload

Phase = Literal["both", "answers", "prompts"]


@dataclass(frozen=True, slots=True)
class Load:
    """A workload, and how many tokens of a prompt one step takes at most."""

    workload: Workload
    prefill_chunk: int

    @property
    def new_prompt_tokens(self) -> int:
        """Tokens of a prompt that are not in the prefix cache."""
        prompt = self.workload.prompt_tokens
        return max(1, round(prompt * (1.0 - self.workload.shared_prompt_share)))

    @property
    def chunk(self) -> int:
        """Tokens of one chunk of a prompt."""
        return ceil(self.new_prompt_tokens / self.num_chunks)

    @property
    def num_chunks(self) -> int:
        """Steps that a prompt takes."""
        return ceil(self.new_prompt_tokens / self.prefill_chunk)

    @property
    def whole_context(self) -> int:
        """Tokens of a finished request."""
        return self.workload.prompt_tokens + self.workload.answer_tokens

    def cached_tokens(self, num_sequences: float) -> float:
        """Tokens in the cache with so many sequences: one at its end, the others anywhere."""
        return self.whole_context + max(0.0, num_sequences - 1) * self.workload.mean_context

    def chunk_step(self, num_sequences: int, tokens: int | None = None) -> StepShape:
        """A step for `num_sequences` with `tokens` of prompts, a chunk unless told."""
        tokens = self.chunk if tokens is None else tokens
        before = self.workload.prompt_tokens - self.new_prompt_tokens
        chunk = min(tokens, self.chunk)
        context = before + (self.new_prompt_tokens - chunk) / 2
        answers = num_sequences * self.workload.mean_context
        num_prompts = tokens / chunk
        return StepShape(
            num_sequences + tokens,
            num_sequences + ceil(tokens / self.new_prompt_tokens),
            answers + num_prompts * (context + chunk),
            answers + tokens * context + num_prompts * chunk * (chunk + 1) / 2,
        )

    def long_share(self, num_sequences: int, phase: Phase) -> float:
        """Share of the steps that take a chunk of a prompt along, 0 to 1."""
        if phase != "both":
            return 0.0
        tokens = num_sequences * self.new_prompt_tokens / self.workload.answer_tokens
        return min(1.0, tokens / self.chunk)

    def mean_step(self, num_sequences: int, phase: Phase) -> tuple[tuple[float, StepShape], ...]:
        """Steps with the share of each, in the long run; for prompts alone: those of one prompt."""
        if phase == "prompts":
            return ((float(self.num_chunks), self.chunk_step(0)),)
        plain = decode_step(num_sequences, self.workload.mean_context)
        if phase == "answers":
            return ((1.0, plain),)
        share = self.long_share(num_sequences, phase)
        if share >= 1.0:
            tokens = num_sequences * self.new_prompt_tokens / self.workload.answer_tokens
            return ((1.0, self.chunk_step(num_sequences, round(tokens))),)
        return ((1.0 - share, plain), (share, self.chunk_step(num_sequences)))
