"""One layer of Qwen3-0.6B, 512 tokens in bfloat16: our compiler beside PyTorch's.

    python -m benchmarks.compiler_block [--rounds N] [--keep]

The layer is the Transformers library's own module, whole: norms, projections, rotary positions,
causal attention, feed-forward. PyTorch runs it eagerly and through `torch.compile` with
`mode="max-autotune"`. Rounds
alternate; each gives one ratio, and medians count.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.models.qwen3 import modeling_qwen3 as qwen3

import banyan
from banyan.devices.instruction_sets import detect_instruction_sets

HISTORY = Path(__file__).resolve().parent / "history" / "compiler.jsonl"
TOKENS, WIDTH = 512, 1024
PAUSE_SECONDS = 0.02


class Block(torch.nn.Module):
    """A decoder layer with the rotary tables and the causal mask it needs."""

    def __init__(self) -> None:
        super().__init__()
        configuration = qwen3.Qwen3Config(
            hidden_size=WIDTH,
            intermediate_size=3072,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
            num_hidden_layers=1,
            attn_implementation="sdpa",
        )
        self.layer = qwen3.Qwen3DecoderLayer(configuration, 0)
        self.rotary = qwen3.Qwen3RotaryEmbedding(configuration)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map [1, tokens, width] to the same shape."""
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        embeddings = self.rotary(hidden, positions)
        result: Any = self.layer(hidden, position_embeddings=embeddings, attention_mask=None)
        return result[0] if isinstance(result, tuple) else result  # type: ignore[no-any-return]


def block() -> Block:
    torch.manual_seed(0)
    made = Block().to(torch.bfloat16).eval()
    for parameter in made.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return made


def seconds(call: Callable[[], object]) -> float:
    """Time of the second of two calls, whose threads are awake."""
    time.sleep(PAUSE_SECONDS)
    call()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def compare(rounds: int) -> dict[str, Any]:
    """Quartiles of their time over ours, and our median time."""
    module, hidden = block(), torch.randn(1, TOKENS, WIDTH).to(torch.bfloat16)
    with torch.no_grad():
        ours = banyan.compile(module, (hidden,))
        inductor = torch.compile(module, mode="max-autotune")
        expected = module(hidden).float()
        error = (ours(hidden).float() - expected).abs().max() / expected.abs().max()
        assert error < 0.02, f"error {error}"
        calls: dict[str, Callable[[], Any]] = {
            "eager": lambda: module(hidden),
            "inductor": lambda: inductor(hidden),
        }
        found: dict[str, Any] = {}
        for name, call in calls.items():
            call()
            pairs = [(seconds(lambda: ours(hidden)), seconds(call)) for _ in range(rounds)]
            quartiles = np.quantile([b / a for a, b in pairs], (0.25, 0.5, 0.75)).tolist()
            mine = float(np.median([a for a, _ in pairs]))
            found[name] = {"quartiles": quartiles, "our seconds": mine}
            low, median, high = quartiles
            print(
                f"block {TOKENS} tokens: {median:.2f} x {name} [{low:.2f}..{high:.2f}], "
                f"ours {1e3 * mine:.2f} ms",
                flush=True,
            )
    print(ours.report())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", action="store_true", help="add a line to benchmarks/history")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = compare(options.rounds)
    if options.keep:
        record = {
            "benchmark": "block",
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "threads": options.threads,
            "instruction_set": detect_instruction_sets()[0].name,
            "rows": found,
        }
        with HISTORY.open("a") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
