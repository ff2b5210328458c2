"""Speculation: mean accepted length and speed-up, beside the same engine without it, taking turns.

Copy-heavy text: questions that were answered earlier in the conversation, asked again, so the model
says what stands in its prompt. Open text: the same questions for the first time, and long answers
to nothing. Times are those of decoding, prompts not included. The seedling is so small that its
weights stay in the cache; `--grow 4` measures a model with the same words and sixteen times the
weights (see grown_seedling.py), which is how larger models behave.

Heads of one's own are measured with `--method eagle --heads DIR`; `python -m seedling.heads` trains
them for the seedling.

Run: python -m benchmarks.engine_speculation [--grow 4] [--tokens 4 8] [--rounds 5]
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from banyan import LLM, SamplingOptions
from benchmarks.grown_seedling import grow

SEEDLING = Path(__file__).parents[1] / "models" / "seedling"
QUESTIONS = (
    "What is Banyan?",
    "How do I run the tests?",
    "Who are you?",
    "What is the KV cache?",
    "How do I start the server?",
    "Which chips does Banyan support?",
)


@dataclass(frozen=True)
class Work:
    """Prompts and how long their answers may become."""

    name: str
    prompts: list[list[int]]
    options: SamplingOptions


@dataclass(frozen=True)
class Result:
    """Tokens of all answers, decoding steps and seconds."""

    tokens: list[list[int]]
    num_decoded: int
    num_steps: int
    seconds: float


def measure(llm: LLM, work: Work) -> Result:
    """Answer the prompts one after the other; prompts are computed off the clock."""
    engine = llm._open().first.engine
    answers, decoded, steps, seconds = [], 0, 0, 0.0
    for number, prompt in enumerate(work.prompts):
        engine.add_request(str(number), prompt, work.options)
        tokens: list[int] = []
        while not tokens:
            tokens += [token for event in engine.step() for token in event.token_ids]
        num_first = len(tokens)
        start = time.perf_counter()
        while engine.has_work():
            for event in engine.step():
                tokens += event.token_ids
            steps += 1
        seconds += time.perf_counter() - start
        decoded += len(tokens) - num_first
        answers.append(tokens)
    return Result(answers, decoded, steps, seconds)


def works_of(llm: LLM) -> list[Work]:
    """Copy-heavy and open text."""
    greedy = SamplingOptions(temperature=0.0, max_tokens=200)
    asked = [[{"role": "user", "content": question}] for question in QUESTIONS]
    answers = [llm.chat(messages, greedy)[0].outputs[0].text for messages in asked]
    again = [
        [*messages, {"role": "assistant", "content": answer}, *messages]
        for messages, answer in zip(asked, answers, strict=True)
    ]
    free = SamplingOptions(temperature=1.0, seed=1, max_tokens=100, ignore_eos=True)
    return [
        Work("copied answers", _prompts(llm, again), greedy),
        Work("first answers", _prompts(llm, asked), greedy),
        Work("free text", _prompts(llm, asked[:3]), free),
    ]


def _prompts(llm: LLM, conversations: list[list[dict[str, str]]]) -> list[list[int]]:
    directory = llm._open().first.directory
    texts = [directory.render_chat(messages) for messages in conversations]
    return [directory.tokenizer.encode(text, add_special_tokens=False) for text in texts]


def compare(llm: LLM, rounds: int) -> None:
    """Print one line for each kind of text; one engine does both, with its speculator and without.

    Two engines would differ in more: where their weights lie is worth some percent.
    """
    engine = llm._open().first.engine
    guessing, plain = engine._speculator, None
    for work in works_of(llm):
        ratios, last, same = [], None, True
        for number in range(rounds + 1):
            found = {}
            for speculator in (plain, guessing) if number % 2 else (guessing, plain):
                engine._speculator = speculator
                found[speculator] = measure(llm, work)
            last = found[guessing]
            same &= last.tokens == found[plain].tokens
            if number:  # the first warms up
                ratios.append(found[plain].seconds / last.seconds)
        assert last is not None
        speed_up, length = statistics.median(ratios), last.num_decoded / last.num_steps
        drafted, accepted = engine.statistics().tokens_drafted, engine.statistics().tokens_accepted
        print(
            f"  {work.name:15} tokens the same: {same!s:5}  mean accepted length {length:5.2f}  "
            f"speed-up {speed_up:5.2f} ({min(ratios):.2f} to {max(ratios):.2f})  "
            f"ratio {speed_up / length:.3f}  so far {accepted} of {drafted} guesses right",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grow", type=int, default=1, help="times the width of the seedling")
    parser.add_argument("--method", default="ngram", choices=("ngram", "eagle", "medusa"))
    parser.add_argument("--heads", help="directory of the heads of --method eagle or medusa")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--quantization")
    parser.add_argument("--tokens", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = SEEDLING
        if chosen.grow > 1:
            model = grow(SEEDLING, Path(folder), times=chosen.grow)
        options = {
            "dtype": chosen.dtype,
            "quantization": chosen.quantization,
            "max_model_len": 512,
            "max_num_seqs": 1,
            "enable_prefix_caching": False,
        }
        for count in chosen.tokens:
            speculation = {"method": chosen.method, "num_speculative_tokens": count}
            if chosen.heads:
                speculation["model"] = chosen.heads
            with LLM(model, speculation=speculation, **options) as llm:
                print(f"{chosen.dtype}, {chosen.quantization}, grown {chosen.grow}: {count}")
                compare(llm, chosen.rounds)


if __name__ == "__main__":
    main()
