"""Measure the seedling: `python -m seedling.evaluate`.

Greedy answers to the held-out questions are compared with the reference answers, and the perplexity
of held-out answers is computed. The numbers go into the model card.
"""

import argparse
import json
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Qwen3ForCausalLM

from seedling.card import Findings, card_text
from seedling.conversations import IGNORED
from seedling.intents import (
    LANGUAGES,
    Phrasing,
    all_phrasings,
    fresh_phrasings,
    load_intents,
)
from seedling.tokenizer import SYSTEM_TEXT, TURN_END, TURN_START, token_number
from seedling.train import OUTPUT

MOST_NEW_TOKENS = 96
LEAST_AGREEMENT = 0.6
MOST_PER_GROUP = 200
BATCH = 32
SHOWN_QUESTIONS = (
    "What is Banyan?",
    "How do I run the tests?",
    "Banyan 支持哪些芯片？",
    "Who are you?",
    "什么是 KV 缓存？",
    "What is the capital of France?",
)


@dataclass(frozen=True, slots=True)
class Score:
    """The result of one group of questions."""

    group: str
    num_questions: int
    num_right: int
    num_ended: int

    @property
    def share(self) -> float:
        """The part of the questions that was answered rightly, 0 to 1."""
        return self.num_right / self.num_questions


def pieces(text: str) -> Counter[str]:
    """Count the Latin words, numbers and Chinese characters of a text, in lower case."""
    return Counter(re.findall(r"[a-z]+|\d+|[\u4e00-\u9fff]", text.casefold()))


def agreement(answer: str, reference: str) -> float:
    """Return the F1 of the pieces of two texts, 0 to 1."""
    given, wanted = pieces(answer), pieces(reference)
    shared = (given & wanted).total()
    if not shared:
        return 0.0
    precision, recall = shared / given.total(), shared / wanted.total()
    return 2 * precision * recall / (precision + recall)


def prompt_of(question: str) -> str:
    """Return the text that the chat template makes of one question."""
    return (
        f"{TURN_START}system\n{SYSTEM_TEXT}{TURN_END}\n"
        f"{TURN_START}user\n{question}{TURN_END}\n{TURN_START}assistant\n"
    )


@torch.inference_mode()
def answer_questions(
    model: Qwen3ForCausalLM, tokenizer: Tokenizer, questions: Sequence[str]
) -> list[tuple[str, bool]]:
    """Return greedy answers, each with whether it ended by itself."""
    end = token_number(tokenizer, TURN_END)
    encoded = [tokenizer.encode(prompt_of(question)).ids for question in questions]
    longest = max(map(len, encoded))
    ids = torch.tensor([[end] * (longest - len(row)) + row for row in encoded])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in encoded])
    made = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=MOST_NEW_TOKENS,
        do_sample=False,
        temperature=None,
        eos_token_id=end,
        pad_token_id=end,
    )
    answers = []
    for row in made[:, longest:].tolist():
        ended = end in row
        answers.append((tokenizer.decode(row[: row.index(end)] if ended else row), ended))
    return answers


@torch.inference_mode()
def answer_perplexity(
    model: Qwen3ForCausalLM, tokenizer: Tokenizer, phrasings: Sequence[Phrasing]
) -> float:
    """Return the perplexity per token of the reference answers and their ends."""
    total, count = 0.0, 0
    for phrasing in phrasings:
        asked = tokenizer.encode(prompt_of(phrasing.text)).ids
        said = tokenizer.encode(phrasing.answer + TURN_END).ids
        labels = torch.tensor([[IGNORED] * len(asked) + said])
        loss = model(input_ids=torch.tensor([asked + said]), labels=labels).loss
        total += loss.item() * len(said)
        count += len(said)
    return math.exp(total / count)


def groups_of(
    phrasings: Sequence[Phrasing], fresh: Sequence[Phrasing]
) -> dict[str, list[Phrasing]]:
    """Sort the held-out questions: written, from a template, of unknown things, fresh."""
    groups: dict[str, list[Phrasing]] = {}
    for phrasing in fresh:
        groups.setdefault(f"fresh, {phrasing.language}", []).append(phrasing)
    for phrasing in phrasings:
        if not phrasing.held_out:
            continue
        kind = "written" if phrasing.written else "template"
        if phrasing.intent.is_unknown:
            kind = "unknown"
        groups.setdefault(f"{kind}, {phrasing.language}", []).append(phrasing)
    source = random.Random(1)
    return {
        name: source.sample(found, min(len(found), MOST_PER_GROUP))
        for name, found in sorted(groups.items())
    }


def score_group(
    model: Qwen3ForCausalLM, tokenizer: Tokenizer, group: str, phrasings: Sequence[Phrasing]
) -> tuple[Score, list[dict[str, str]]]:
    """Score one group; the answers that were wrong come along."""
    right = ended = 0
    wrong = []
    ordered = sorted(phrasings, key=lambda phrasing: len(phrasing.text))
    for at in range(0, len(ordered), BATCH):
        part = ordered[at : at + BATCH]
        answers = answer_questions(model, tokenizer, [phrasing.text for phrasing in part])
        for phrasing, (answer, finished) in zip(part, answers, strict=True):
            ended += finished
            if agreement(answer, phrasing.answer) >= LEAST_AGREEMENT:
                right += 1
            else:
                wrong.append(
                    {"question": phrasing.text, "answer": answer, "wanted": phrasing.intent.name}
                )
    return Score(group, len(ordered), right, ended), wrong


def main() -> None:
    """Evaluate a model folder, print the scores and write its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=OUTPUT)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wrong", type=Path, help="write the wrong answers to this file")
    parser.add_argument("--no-card", action="store_true", help="leave the model card alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = Qwen3ForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    intents = load_intents()
    phrasings = all_phrasings(intents)
    scores, wrong, sampled = [], [], []
    for group, found in groups_of(phrasings, fresh_phrasings(intents)).items():
        score, failed = score_group(model, tokenizer, group, found)
        print(f"{group:20} {score.num_right}/{score.num_questions} = {score.share:.3f}", flush=True)
        scores.append(score)
        wrong += failed
        sampled += found[:50]
    perplexity = answer_perplexity(model, tokenizer, sampled)
    print(f"perplexity of held-out answers {perplexity:.3f}")
    answers = answer_questions(model, tokenizer, SHOWN_QUESTIONS)
    shown = [(question, text) for question, (text, _) in zip(SHOWN_QUESTIONS, answers, strict=True)]
    for question, text in shown:
        print(f"> {question}\n{text}")
    if arguments.wrong:
        arguments.wrong.write_text(json.dumps(wrong, ensure_ascii=False, indent=1))
    if not arguments.no_card:
        findings = Findings(
            scores=[asdict(score) for score in scores],
            perplexity=perplexity,
            samples=shown,
            phrasings={name: sum(p.language == name for p in phrasings) for name in LANGUAGES},
            held_out_share=sum(p.held_out for p in phrasings) / len(phrasings),
        )
        text = card_text(arguments.model, model.num_parameters(), findings)
        (arguments.model / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
