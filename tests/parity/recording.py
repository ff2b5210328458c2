"""Run prompts through the whole engine and keep the logits that led to each token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.engine.engine import Engine
from banyan.engine.options import EngineLimits, EngineOptions
from banyan.engine.runner import StepModel
from banyan.engine.sampling import SamplingOptions
from banyan.engine.starting.loading import load_model
from banyan.foundation.settings import Settings

Logits = NDArray[np.float32]


@dataclass(slots=True)
class RecordingModel(StepModel):
    """Passes steps on to a model and keeps every row of logits by (first block, position)."""

    model: StepModel
    rows: dict[tuple[int, int], Logits] = field(default_factory=dict)
    largest_mix: int = 0

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """One step."""
        result = self.model.run(arguments)
        starts, lengths = arguments["query_starts"], arguments["context_lengths"]
        self.largest_mix = max(self.largest_mix, len(lengths) if (np.diff(starts) > 1).any() else 0)
        for row, token in zip(result["logits"], arguments["logit_rows"], strict=True):
            sequence = int(np.searchsorted(starts, token, side="right")) - 1
            key = (int(arguments["block_tables"][sequence, 0]), int(lengths[sequence]) - 1)
            self.rows[key] = row.copy()
        return result


@dataclass(frozen=True, slots=True)
class Answer:
    """Tokens [N] of one prompt, and the logits [N, vocab] each was chosen from."""

    token_ids: list[int]
    logits: Logits


def answer_greedily(
    directory: Path,
    prompts: Sequence[list[int]],
    *,
    dtype: str,
    num_new: int,
    token_budget: int,
    cache_directory: Path,
    device: str = "cpu",
) -> tuple[list[Answer], RecordingModel]:
    """All prompts at once, greedy, in steps of at most `token_budget` tokens.

    Prompts must differ in length: answers are told apart by where their logits begin.
    """
    longest = max(map(len, prompts)) + num_new
    options = EngineOptions(
        dtype=dtype,
        device=device,
        threads=2 if device == "cpu" else None,
        max_model_len=longest,
        max_num_batched_tokens=token_budget,
        max_num_seqs=len(prompts),
    )
    loaded = load_model(str(directory), options, settings=Settings(cache_directory))
    try:
        assert not loaded.executable.report.externs, "an operation stayed outside our kernels"
        num_blocks = sum((len(prompt) + num_new) // 16 + 1 for prompt in prompts)
        limits = EngineLimits(
            max_model_len=longest,
            max_num_seqs=len(prompts),
            token_budget=token_budget,
            num_blocks=num_blocks,
        )
        recording = RecordingModel(loaded.executable)
        engine = Engine(recording, limits, vocab_size=loaded.engine.vocab_size)
        sampling = SamplingOptions(temperature=0.0, max_tokens=num_new, ignore_eos=True)
        for number, prompt in enumerate(prompts):
            engine.add_request(str(number), prompt, sampling)
        tokens: dict[str, list[int]] = {}
        while engine.has_work():
            for event in engine.step():
                tokens.setdefault(event.request_id, []).extend(event.token_ids)
    finally:
        loaded.close()
    return [
        Answer(tokens[str(number)], _logits_of(recording, len(prompt) - 1, num_new))
        for number, prompt in enumerate(prompts)
    ], recording


def _logits_of(recording: RecordingModel, first_position: int, num_new: int) -> Logits:
    firsts = {
        block: min(position for other, position in recording.rows if other == block)
        for block, _ in recording.rows
    }
    (block,) = [block for block, position in firsts.items() if position == first_position]
    return np.stack([recording.rows[block, first_position + step] for step in range(num_new)])
