"""The steps that `benchmarks.prediction` predicts and runs: two models, cut in three ways."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from banyan.planner.costs import StepShape
from benchmarks.compiler_cost import QWEN3

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 128256,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-05,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "max_position_embeddings": 131072,
}
CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {"qwen3": QWEN3, "llama": LLAMA}


@dataclass(frozen=True, slots=True)
class Case:
    """One step: so many sequences for each (sequences, new tokens, cached tokens)."""

    title: str
    slices: tuple[tuple[int, int, int], ...]

    @property
    def shape(self) -> StepShape:
        """As the planner sees it."""
        tokens = sum(n * new for n, new, _ in self.slices)
        rows = sum(n for n, _, _ in self.slices)
        cached = sum(n * (new + past) for n, new, past in self.slices)
        pairs = sum(n * new * (past + (new + 1) / 2) for n, new, past in self.slices)
        return StepShape(tokens, rows, cached, pairs)


def prompt(tokens: int, past: int = 0) -> Case:
    behind = f" behind {past}" if past else ""
    return Case(f"prompt of {tokens}{behind}", ((1, tokens, past),))


def answers(sequences: int, past: int) -> Case:
    return Case(f"{sequences} answers at {past}", ((sequences, 1, past),))


@dataclass(frozen=True, slots=True)
class Group:
    """Steps of one model.

    Attributes:
        model: a name of `CONFIGURATIONS`.
        layers: how many.
        weights: their form.
        cache: the form of keys and values.
        cases: the steps.
        split: "" for one device, "stages" for two, "attention" for attention apart.
    """

    model: str
    layers: int
    weights: str
    cache: str
    cases: tuple[Case, ...]
    split: str = ""

    @property
    def title(self) -> str:
        """What is printed of it."""
        return f"{self.model} {self.layers} {self.weights}:{self.cache} {self.split}".rstrip()


GROUPS = (
    Group(
        "qwen3",
        4,
        "bfloat16",
        "bfloat16",
        (
            *(prompt(n) for n in (100, 700, 2048)),
            *(answers(n, past) for n, past in ((1, 200), (1, 8000), (6, 3000), (24, 700))),
            prompt(256, 1000),
            answers(3, 1500),
            answers(10, 400),
        ),
    ),
    Group(
        "qwen3",
        6,
        "int8",
        "int8",
        (
            *(prompt(n) for n in (64, 500, 1500)),
            *(answers(n, past) for n, past in ((1, 1000), (3, 4000), (10, 64), (48, 300))),
            prompt(300, 700),
            answers(20, 500),
        ),
    ),
    Group(
        "qwen3",
        5,
        "int4",
        "int4",
        (
            *(prompt(n) for n in (200, 900)),
            *(answers(n, past) for n, past in ((1, 500), (5, 2000), (20, 1200), (64, 100))),
            prompt(400),
            answers(2, 5000),
            answers(9, 800),
        ),
    ),
    Group(
        "llama",
        2,
        "bfloat16",
        "int8",
        (
            *(prompt(n) for n in (150, 1200)),
            prompt(300, 1500),
            *(answers(n, past) for n, past in ((1, 3000), (12, 600), (40, 200))),
            prompt(500),
            answers(5, 1000),
        ),
    ),
    Group(
        "llama",
        4,
        "int8",
        "bfloat16",
        (
            *(prompt(n) for n in (80, 600)),
            *(answers(n, past) for n, past in ((1, 100), (2, 7000), (16, 500), (64, 128))),
            Case("8 answers at 900 and a prompt of 200", ((8, 1, 900), (1, 200, 0))),
        ),
    ),
    Group(
        "llama",
        3,
        "int4",
        "int8",
        (
            *(prompt(n) for n in (128, 1000)),
            *(answers(n, past) for n, past in ((1, 2000), (7, 800), (32, 400))),
        ),
    ),
    Group(
        "qwen3",
        6,
        "bfloat16",
        "bfloat16",
        (
            prompt(400),
            prompt(1000),
            *(answers(n, p) for n, p in ((1, 700), (3, 2500), (12, 900), (40, 250))),
        ),
        "stages",
    ),
    Group(
        "llama",
        4,
        "int8",
        "bfloat16",
        (prompt(250), answers(4, 1500), answers(30, 300)),
        "stages",
    ),
    Group(
        "qwen3",
        2,
        "int8",
        "bfloat16",
        (prompt(180), answers(8, 2000), answers(50, 350)),
        "attention",
    ),
)
