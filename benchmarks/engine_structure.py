"""What structured answers cost: tokens/s of 16 answers at once, with and without a JSON schema.

    python benchmarks/engine_structure.py [--model DIR] [--quantization int8] [--steps 40]

One engine; rounds of free and of structured answers alternate, each of the same number of decode
steps after its prompts are computed. Every answer has a schema of its own: a list, too long to
end, of objects with texts, numbers, choices and dates. Greedy, and at temperature 1. Medians over
the rounds and their ratio. The bar: structured >= 0.95 of free.
"""

import argparse
import json
import os
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from banyan.engine.engine import Engine
from banyan.engine.options import EngineOptions
from banyan.engine.sampling import SamplingOptions
from banyan.engine.starting.loading import load_model
from banyan.engine.structure.definition import Structure
from banyan.foundation.settings import load_settings

MODEL = Path.home() / ".cache" / "banyan-peers" / "models" / "qwen3-0.6b"
PROMPT_TOKENS = 256


def schema(number: int) -> dict[str, Any]:
    """Return a schema of its own for each answer; about as rich as those of tools."""
    record = {
        "type": "object",
        "properties": {
            f"name_{number}": {"type": "string", "minLength": 1, "maxLength": 30},
            "kind": {"enum": ["person", "place", f"thing {number}"]},
            "age": {"type": "integer", "minimum": 0, "maximum": 120 + number},
            "score": {"type": "number"},
            "since": {"type": "string", "format": "date"},
            "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 4},
        },
        "required": [f"name_{number}", "kind", "age", "score", "since", "code", "tags"],
        "additionalProperties": False,
    }
    return {"type": "array", "items": record, "minItems": 200}


def tokens_per_second(
    engine: Engine, options: list[SamplingOptions], *, steps: int
) -> tuple[float, list[str]]:
    """Tokens/s of the decode steps of all answers together, and what was written."""
    for number, choice in enumerate(options):
        prompt = [(number * 7919 + place * 31) % 20_000 for place in range(PROMPT_TOKENS)]
        engine.add_request(str(number), prompt, choice)
    texts = [""] * len(options)
    started = {str(number): False for number in range(len(options))}
    while not all(started.values()):
        for event in engine.step():
            started[event.request_id] = True
            texts[int(event.request_id)] += event.text
    begin, num_tokens = time.perf_counter(), 0
    for _ in range(steps):
        for event in engine.step():
            num_tokens += len(event.token_ids)
            texts[int(event.request_id)] += event.text
    seconds = time.perf_counter() - begin
    for number in range(len(options)):
        engine.cancel(str(number))
    while engine.has_work():
        engine.step()
    return num_tokens / seconds, texts


def measure(engine: Engine, *, temperature: float, answers: int, steps: int, rounds: int) -> None:
    """Print the medians of one way to sample."""
    longest = engine.limits.max_model_len - PROMPT_TOKENS
    common: dict[str, Any] = {"temperature": temperature, "max_tokens": longest, "ignore_eos": True}
    free = [SamplingOptions(**common, seed=number) for number in range(answers)]
    shaped = [
        SamplingOptions(**common, seed=number, structure=Structure.json_schema(schema(number)))
        for number in range(answers)
    ]
    for choice in shaped:
        engine.prepare(choice)
    tokens_per_second(engine, shaped, steps=4)
    tokens_per_second(engine, free, steps=4)
    pairs = []
    for round_number in range(rounds):
        order = (free, shaped) if round_number % 2 else (shaped, free)
        first, second = (tokens_per_second(engine, one, steps=steps)[0] for one in order)
        pairs.append((first, second) if round_number % 2 else (second, first))
    plain, bound = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(
        f"temperature {temperature:<4} {answers} answers: free {plain:8.1f} tokens/s, "
        f"structured {bound:8.1f} tokens/s, ratio {ratio:.3f} (bar 0.95)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument("--quantization", default="int8")
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--show", action="store_true", help="print what one answer looks like")
    arguments = parser.parse_args()
    chosen = arguments.quantization
    options = EngineOptions(
        quantization=None if chosen == "none" else chosen,
        max_model_len=2048,
        max_num_seqs=arguments.answers,
        num_blocks=arguments.answers * 128,
    )
    with closing(
        load_model(arguments.model, options, settings=load_settings(os.environ))
    ) as loaded:
        engine = loaded.engine
        if arguments.show:
            one = SamplingOptions(seed=1, structure=Structure.json_schema(schema(1)))
            print(json.dumps(tokens_per_second(engine, [one], steps=200)[1][0][:400]))
        for temperature in (0.0, 1.0):
            measure(
                engine,
                temperature=temperature,
                answers=arguments.answers,
                steps=arguments.steps,
                rounds=arguments.rounds,
            )


if __name__ == "__main__":
    main()
