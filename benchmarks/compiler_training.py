"""A training step of a 10M-parameter GPT: ours beside Inductor and eager, in one process.

    python -m benchmarks.compiler_training [--type bf16 f32] [--rounds N] [--keep]

Batches of 16 sequences of 256 tokens, vocabulary 4096, tied head; a step is forward, loss and
backward, without the optimiser, which is PyTorch's for all. Rounds alternate between the three and
each gives one ratio; medians and quartiles count. Before anything is timed, every gradient is
compared with that of eager in float32 on the same parameters: the largest difference beside the
largest entry stays under 1e-4 in float32 and under 2e-2 in bfloat16, where eager itself is off by
tenths in the weights of norms.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from banyan.compiler.dynamo.backend import banyan
from banyan.devices.instruction_sets import detect_instruction_sets

HISTORY = Path(__file__).resolve().parent / "history" / "compiler.jsonl"
BATCH, LENGTH, VOCABULARY, WIDTH, LAYERS, HEADS = 16, 256, 4096, 320, 7, 5
TYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
TOLERANCE = {"bf16": 2e-2, "f32": 1e-4}
PAUSE_SECONDS = 0.02  # until the threads of whoever ran last are asleep
Step = Callable[[], float]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norms[0](x)).view(batch, length, 3, HEADS, width // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        hidden: Tensor = self.down(functional.gelu(self.up(self.norms[1](x)), approximate="tanh"))
        return x + hidden


class Gpt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        logits = self.head(self.norm(self.blocks(x))).flatten(0, 1)
        return functional.cross_entropy(logits.float(), targets.flatten())


@dataclass(frozen=True, slots=True)
class Row:
    """Quartiles of one ratio over the rounds, and the median seconds of both."""

    name: str
    quartiles: tuple[float, float, float]
    ours: float
    theirs: float

    def __str__(self) -> str:
        low, median, high = self.quartiles
        return (
            f"{self.name:24s} {median:6.3f} [{low:.3f}..{high:.3f}]  "
            f"ours {self.ours * 1e3:7.1f} ms, theirs {self.theirs * 1e3:7.1f} ms"
        )


def stepper(model: nn.Module, run: Any, batch: tuple[Tensor, Tensor]) -> Step:
    """A function that makes one step and gives its seconds."""

    def step() -> float:
        model.zero_grad(set_to_none=True)
        time.sleep(PAUSE_SECONDS)
        began = time.perf_counter()
        run(*batch).backward()
        return time.perf_counter() - began

    return step


def largest_difference(ours: nn.Module, exact: nn.Module) -> float:
    """The worst gradient: its largest difference beside its largest entry."""
    worst = 0.0
    for mine, theirs in zip(ours.parameters(), exact.parameters(), strict=True):
        if mine.grad is not None and theirs.grad is not None:
            difference = (mine.grad.float() - theirs.grad.float()).abs().max()
            worst = max(worst, float(difference / theirs.grad.float().abs().max()))
    return worst


def measure(kind: str, rounds: int) -> list[Row]:
    """Compare the three on one element type.

    Raises:
        SystemExit: a gradient differs from eager by more than is allowed.
    """
    torch.manual_seed(0)
    plain = Gpt().to(TYPES[kind])
    generator = torch.Generator().manual_seed(1)
    shape = (BATCH, LENGTH)
    tokens, targets = (torch.randint(0, VOCABULARY, shape, generator=generator) for _ in range(2))
    batch = tokens, targets
    ours, inductor = copy.deepcopy(plain), copy.deepcopy(plain)
    steps = {
        "banyan": stepper(ours, torch.compile(ours, backend=banyan), batch),
        "Inductor": stepper(inductor, torch.compile(inductor), batch),
        "eager": stepper(plain, plain, batch),
    }
    for step in steps.values():
        step()
    exact = copy.deepcopy(plain).float()
    stepper(exact, exact, batch)()
    worst = largest_difference(ours, exact)
    count = sum(p.numel() for p in plain.parameters())
    print(f"{kind}: {count / 1e6:.1f}M parameters, worst gradient off by {worst:.1e}", flush=True)
    if worst > TOLERANCE[kind]:
        raise SystemExit(f"gradients differ by {worst:.1e}; {TOLERANCE[kind]:.0e} is allowed")
    for step in steps.values():
        step()
    times = {name: np.empty(rounds) for name in steps}
    for number in range(rounds):
        for name, step in steps.items():
            times[name][number] = step()
    return [row(kind, name, times) for name in ("Inductor", "eager")]


def row(kind: str, name: str, times: dict[str, Any]) -> Row:
    ratios = times[name] / times["banyan"]
    low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
    seconds = float(np.median(times["banyan"])), float(np.median(times[name]))
    found = Row(f"{kind} beside {name}", (low, median, high), *seconds)
    print(found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--type", nargs="+", choices=TYPES, default=list(TYPES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keep", action="store_true", help=f"append the rows to {HISTORY.name}")
    arguments = parser.parse_args()
    rows = [row for kind in arguments.type for row in measure(kind, arguments.rounds)]
    if arguments.keep:
        record = {
            "benchmark": "compiler_training",
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": detect_instruction_sets()[0].name,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "rows": {r.name: [round(q, 3) for q in r.quartiles] for r in rows},
        }
        with HISTORY.open("a", encoding="utf-8") as history:
            history.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
