"""Write the model card of the seedling from its scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CARD = """\
---
language: [en, zh]
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# Seedling

The small model that ships with Banyan. It exists so that the demo and the tests run without a
download: it answers short questions about Banyan in English and Chinese, ends its answers, and
says that it does not know when it is asked about other things. It is not a general assistant.

| | |
|---|---|
| architecture | Qwen3 (`Qwen3ForCausalLM`), 6 layers, width 256, 4 heads, 2 key-value heads of 64 |
| parameters | {parameters:,}, bfloat16, embeddings tied |
| tokenizer | byte-level BPE, 4096 pieces, chat template in the manner of Qwen |
| context | 2048 positions; trained on rows of 256 tokens |
| weights | random at the start; nothing was taken from another model |

## Score

Held-out questions, greedy answers. An answer counts as right when the F1 of its words (Chinese:
characters) with the reference answer is at least 0.6.

| held-out questions | number | right | ended by themselves |
|---|---|---|---|
{scores}

- *fresh*: `seedling/fresh.toml`, written by hand after all training questions, and scored as it
  is. The number to trust.
- *template*: a name and a template that were both seen in training, but never together.
- *written*: a question written by hand and kept out of training. Its failures were read once
  while the questions grew, and more questions of the same intents were written then.
- *unknown*: things outside Banyan whose very subject was kept out of training; right means to say
  that it does not know.

Held out is {held_out} of the phrasings, chosen by the hash of their text. Perplexity of the
reference answers to held-out questions: {perplexity:.2f} per token.

## Samples

Greedy, as the evaluation printed them.

{samples}

## Data

All stages use the questions; only the first uses the rest.

| what | licence |
|---|---|
| questions and answers in `seedling/questions` ({phrasings}) | Apache-2.0 |
| the pages and docstrings of this repository | Apache-2.0 |
| the topics of Python's `pydoc`, the docstrings of its standard library | PSF-2.0 |
| Debian packages `debian-reference-en`, `debian-reference-zh-cn` | GPL-2.0-or-later |
| Debian package `maint-guide-zh-cn` | GPL-2.0-or-later |
| Debian packages `debian-faq`, `debian-faq-zh-cn` | the FAQ's own notice: share alike |
| Debian package `debmake-doc`, English and Chinese | MIT |

The documentation served as training text only; no part of it is in the repository.

## Recipe

`python -m seedling.train` and then `python -m seedling.evaluate`, in the development environment.
{recipe}

The seed is fixed, and what a step sees depends on the seed and its number alone. The weights that
ship were made while the repository's pages and the questions were still being written: the
tokenizer, the first stage and most of the second saw fewer of them than the last stage and than
you read, and the lengths of the last two stages were changed on the way, from their checkpoints.
A run today gives a slightly different model.

## Limits

- It knows the answers it was taught and recombines them; asked in an unusual way, it may give a
  fluent answer to another question, or say that it does not know what it does.
- Facts are those of version 0.1 of Banyan. What the documentation says counts more.
- It cannot reason, calculate, translate or write code, and was not tested for safety beyond saying
  that it does not know.
- Conversations of more than a few short turns are beyond it.
"""


@dataclass(frozen=True, slots=True)
class Findings:
    """What an evaluation found: rows of scores, a perplexity and a few answers."""

    scores: Sequence[Mapping[str, object]]
    perplexity: float
    samples: Sequence[tuple[str, str]]
    phrasings: Mapping[str, int]
    held_out_share: float


def score_row(score: Mapping[str, object]) -> str:
    """Return one row of the table of scores."""
    number, right, ended = (
        int(str(score[f"num_{key}"])) for key in ("questions", "right", "ended")
    )
    return f"| {score['group']} | {number} | {right / number:.1%} | {ended / number:.1%} |"


def recipe_text(folder: Path) -> str:
    """Describe the run from the file the training left beside the weights."""
    recipe = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    lines = [
        f"- stage `{stage['name']}`: {stage['num_steps']:,} steps of "
        f"{stage['num_rows'] * recipe['row_length']:,} tokens, highest rate "
        f"{stage['peak_rate']:g}, {stage['text_share']:.0%} plain text"
        for stage in recipe["stages"]
    ]
    return "\n".join([f"AdamW, cosine schedule, seed {recipe['seed']}, on CPU cores.", "", *lines])


def card_text(folder: Path, parameters: int, findings: Findings) -> str:
    """Return the whole card."""
    counted = ", ".join(f"{number:,} {name}" for name, number in findings.phrasings.items())
    return CARD.format(
        parameters=parameters,
        scores="\n".join(score_row(score) for score in findings.scores),
        perplexity=findings.perplexity,
        samples="\n\n".join(f"> {question}\n\n{answer}" for question, answer in findings.samples),
        phrasings=f"phrasings: {counted}",
        held_out=f"{findings.held_out_share:.0%}",
        recipe=recipe_text(folder),
    )
