"""Turn questions and text into rows of tokens for training.

A row has a fixed length and holds whole conversations (or pieces of text) one after another. Each
knows its own positions and sees only itself, so a conversation looks the same wherever it lies.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from seedling.intents import TEMPLATES, Phrasing, fill, normalise
from seedling.tokenizer import END_OF_TEXT, SYSTEM_TEXT, TURN_END, TURN_START, token_number

WAITING = 8  # segments to choose from when a row is filled
IGNORED = -100  # the label torch leaves out of the loss
# What people ask first and most; drawn four times as often.
FREQUENT = frozenset(
    "what-is-banyan who-are-you greeting what-can-you-do install run-tests make-demo serve-model "
    "supported-chips supported-models nvidia banyan-commands llm-class".split()
)
OTHER_SYSTEM_TEXTS = (
    "You are a helpful assistant.",
    "Answer in one sentence.",
    "你是一个有用的助手。",
    "请简短回答。",
)
OPENINGS = {
    "english": ("Please: ", "Hello! ", "Hi, ", "Quick question: ", "Excuse me, ", "So, "),
    "chinese": ("请问，", "你好，", "问一下，", "那么，", "麻烦问下，"),
}


@dataclass(frozen=True, slots=True)
class Segment:
    """Token ids and, for each, whether the model is to learn to say it."""

    token_ids: list[int]
    learned: list[bool]


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch: four int64 tensors [rows, length].

    `owners` numbers the segment each token is part of; `labels` are shifted by the model.
    """

    token_ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    owners: torch.Tensor


# Words that may stand for one another in a question, most of the time.
SYNONYMS = {
    "english": (
        ("How do I ", "How can I ", "How do you ", "How would I ", "How should I "),
        ("What is ", "What's ", "So what is ", "What exactly is "),
        ("Does Banyan ", "Will Banyan ", "Can Banyan ", "Does it "),
        ("Tell me about ", "Say something about ", "Talk about "),
        ("Show me ", "Give me ", "I need "),
        ("What if ", "What happens if ", "What about when "),
        ("Which ", "What "),
        (" my ", " the ", " a "),
    ),
    "chinese": (
        ("怎么", "如何", "怎样", "该怎么"),
        ("是什么", "是啥", "究竟是什么", "到底是什么"),
        ("什么是", "啥是", "到底什么是"),
        ("吗？", "么？", "不？", "吗"),
        ("哪些", "什么", "哪几种"),
        ("怎么办", "怎么处理", "如何处理"),
        ("会怎样", "会发生什么", "会怎么样"),
        ("支持", "兼容"),
        ("运行", "跑"),
    ),
}


# Words that a hurried person leaves out.
SLACK_WORDS = {
    "english": r"\b(?:the|an?|do|does|is|are|of|to|in|can|i|my|for|you|it|there|banyan|please)\b ?",
    "chinese": r"的|吗|请问|一下|Banyan ?|是|有|能|可以|会|了|在|用|我|呢|个",
}


def leave_out(text: str, language: str, source: random.Random) -> str:
    """Drop each slack word of a question with an even chance; the others stay."""
    return re.sub(
        SLACK_WORDS[language],
        lambda word: "" if source.random() < 0.5 else word.group(),
        text,
        flags=re.IGNORECASE,
    ).strip()


def say_otherwise(text: str, language: str, source: random.Random) -> str:
    """Exchange one group of words for another that means about the same."""
    groups = [group for group in SYNONYMS[language] if any(words in text for words in group)]
    if not groups:
        return text
    group = source.choice(groups)
    present = max((words for words in group if words in text), key=len)
    return text.replace(present, source.choice(group), 1)


def mistype(text: str, source: random.Random) -> str:
    """Drop, double or swap one letter of a question."""
    at = source.randrange(max(1, len(text) - 2))
    first, second = text[at : at + 1], text[at + 1 : at + 2]
    return text[:at] + source.choice(("", first * 2, second + first)) + text[at + 1 :]


def vary(text: str, language: str, source: random.Random) -> str:
    """Change what people change when they type: words, case, the last mark, spaces, an opening."""
    if source.random() < 0.25:
        return text
    if source.random() < 0.35:
        text = say_otherwise(text, language, source)
    if source.random() < 0.25:
        text = leave_out(text, language, source) or text
    if source.random() < 0.05:
        text = mistype(text, source)
    chance = source.random()
    if chance < 0.25:
        text = text.rstrip("?.？。!！")
    elif chance < 0.4:
        text = text.replace("？", "?").replace("，", ",")
    if language == "chinese" and source.random() < 0.3:
        text = re.sub(r"(?<=[\u4e00-\u9fff]) | (?=[\u4e00-\u9fff])", "", text)
    if source.random() < 0.25:
        text = text.lower()
    if source.random() < 0.1:
        text = source.choice(OPENINGS[language]) + text
    return text


class ConversationMaker:
    """Draws conversations of one to three turns from the training phrasings."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        phrasings: Sequence[Phrasing],
        stray_words: Sequence[str],
        *,
        answers_only: bool,
        unknown_share: float = 0.15,
    ) -> None:
        self._tokenizer = tokenizer
        self._stray_words = stray_words
        self._answers_only = answers_only
        self._unknown_share = unknown_share
        self._held_out = {normalise(p.text) for p in phrasings if p.held_out}
        self._known: dict[tuple[str, str, bool], list[Phrasing]] = {}
        self._unknown: list[Phrasing] = []
        for phrasing in phrasings:
            if phrasing.held_out:
                continue
            if phrasing.intent.is_unknown:
                self._unknown.append(phrasing)
            else:
                key = (phrasing.intent.name, phrasing.language, phrasing.written)
                self._known.setdefault(key, []).append(phrasing)
        self._keys = [
            key for key in sorted(self._known) for _ in range(4 if key[0] in FREQUENT else 1)
        ]

    def _draw(self, source: random.Random) -> tuple[str, str]:
        """Return a question as typed and its answer; never a question that is held out."""
        if source.random() >= self._unknown_share:
            phrasing = source.choice(self._known[source.choice(self._keys)])
        else:
            phrasing = source.choice(self._unknown)
        text = phrasing.text
        if phrasing.intent.is_unknown and self._stray_words and source.random() < 0.25:
            forms = [form for form in TEMPLATES["thing", phrasing.language] if len(form) > 3]
            text = fill(source.choice(forms), source.choice(self._stray_words))
        varied = vary(text, phrasing.language, source)
        return text if normalise(varied) in self._held_out else varied, phrasing.answer

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text).ids)

    def make(self, source: random.Random) -> Segment:
        """Draw one conversation; the answers and the ends of turns after them are learned."""
        system = SYSTEM_TEXT
        if source.random() < 0.15:
            system = source.choice(OTHER_SYSTEM_TEXTS)
        ids = self._encode(f"{TURN_START}system\n{system}{TURN_END}\n")
        learned = [False] * len(ids)
        for _ in range(source.choice((1, 1, 1, 1, 2, 3))):
            question, answer = self._draw(source)
            asked = self._encode(f"{TURN_START}user\n{question}{TURN_END}\n{TURN_START}assistant\n")
            said = self._encode(f"{answer}{TURN_END}")
            newline = self._encode("\n")
            ids += asked + said + newline
            learned += [not self._answers_only] * len(asked) + [True] * len(said)
            learned += [False] * len(newline)
        return Segment(ids, learned)


class TextMaker:
    """Draws pieces of the pretraining text."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str], length: int) -> None:
        end = token_number(tokenizer, END_OF_TEXT)
        self._pieces: list[list[int]] = []
        for encoding in tokenizer.encode_batch(list(texts)):
            ids = [*encoding.ids, end]
            self._pieces += [ids[at : at + length] for at in range(0, len(ids), length)]

    def make(self, source: random.Random) -> Segment:
        """Return a piece; every token is learned."""
        ids = source.choice(self._pieces)
        return Segment(ids, [True] * len(ids))


def pack(draw: Callable[[], Segment], num_rows: int, length: int, padding: int) -> Rows:
    """Fill rows with segments; the first of WAITING drawn ones that fits comes next.

    A segment longer than a row is cut.
    """
    rows = Rows(
        torch.full((num_rows, length), padding),
        torch.full((num_rows, length), IGNORED),
        torch.zeros((num_rows, length), dtype=torch.int64),
        torch.full((num_rows, length), -1),
    )
    waiting = [draw() for _ in range(WAITING)]
    for row in range(num_rows):
        filled = owner = 0
        while fitting := [s for s in waiting if not filled or filled + len(s.token_ids) <= length]:
            segment = fitting[0]
            ids = torch.tensor(segment.token_ids[:length])
            learned = torch.tensor(segment.learned[:length])
            part = slice(filled, filled + len(ids))
            rows.token_ids[row, part] = ids
            rows.labels[row, part] = torch.where(learned, ids, IGNORED)
            rows.labels[row, filled] = IGNORED  # nothing before a segment foretells its start
            rows.positions[row, part] = torch.arange(len(ids))
            rows.owners[row, part] = owner
            filled += len(ids)
            owner += 1
            waiting.remove(segment)
            waiting.append(draw())
    return rows


def attention_mask(owners: torch.Tensor) -> torch.Tensor:
    """Return bool [rows, 1, length, length]: what a token sees, earlier tokens of its segment.

    Padding (owner -1) sees itself, so that no row of the softmax is empty.
    """
    same = owners[:, :, None] == owners[:, None, :]
    return (same & torch.ones_like(same[0]).tril())[:, None]
