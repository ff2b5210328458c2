"""Questions and answers about Banyan: read, expanded to phrasings, split in training and held out.

A file in `questions/` is a list of intents. An intent is one thing that a person may want to know,
with one answer per language and many ways to ask. Some ways are written out (`ask`), the others are
made from the names of the thing (`about`) and the templates of its kind.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

QUESTIONS = Path(__file__).resolve().parent / "questions"
FRESH = Path(__file__).resolve().parent / "fresh.toml"
LANGUAGES = ("english", "chinese")
UNKNOWN = "unknown"
HELD_OUT_SHARE = 10  # one phrasing in so many is held out

TEMPLATES: dict[tuple[str, str], tuple[str, ...]] = {
    ("thing", "english"): (
        "What is {}?",
        "What's {}?",
        "What does {} mean?",
        "Explain {}.",
        "Tell me about {}.",
        "Can you explain {}?",
        "Describe {} briefly.",
        "What do you know about {}?",
        "Define {}.",
        "What about {}?",
        "{}?",
        "I want to know about {}.",
        "Could you tell me what {} is?",
        "Please explain what {} means.",
    ),
    ("thing", "chinese"): (
        "{}是什么？",
        "什么是{}？",
        "{}是什么意思？",
        "介绍一下{}。",
        "解释一下{}。",
        "请问{}是什么？",
        "能讲讲{}吗？",
        "说说{}。",
        "{}指的是什么？",
        "{}",
        "{}呢？",
        "我想了解{}。",
        "{}到底是什么？",
        "关于{}你知道什么？",
        "{}是啥？",
    ),
    ("action", "english"): (
        "How do I {}?",
        "How can I {}?",
        "How to {}?",
        "What is the command to {}?",
        "I want to {}.",
        "Show me how to {}.",
        "What should I do to {}?",
        "What is the way to {}?",
        "I need to {}.",
        "Can you tell me how to {}?",
        "Help me {}.",
        "Please {}.",
        "{}",
    ),
    ("action", "chinese"): (
        "怎么{}？",
        "如何{}？",
        "怎样{}？",
        "我想{}，怎么做？",
        "{}用什么命令？",
        "请问如何{}？",
        "要{}该怎么办？",
        "怎么才能{}？",
        "帮我{}。",
        "我要{}。",
        "教我{}。",
        "{}",
        "{}的方法是什么？",
        "我该如何{}？",
    ),
    ("ability", "english"): (
        "Can Banyan {}?",
        "Does Banyan {}?",
        "Is Banyan able to {}?",
        "Can it {}?",
        "Is it possible to {} with Banyan?",
        "Will Banyan {}?",
        "I want to {}.",
        "Can I {}?",
        "How do I {}?",
        "Is there a way to {}?",
    ),
    ("ability", "chinese"): (
        "Banyan 能{}吗？",
        "Banyan 可以{}吗？",
        "Banyan 会{}吗？",
        "能不能{}？",
        "可以用 Banyan {}吗？",
        "它能{}吗？",
        "我想{}。",
        "怎么{}？",
        "支持{}吗？",
        "有办法{}吗？",
    ),
    ("plain", "english"): (),
    ("plain", "chinese"): (),
}


@dataclass(frozen=True, slots=True)
class Side:
    """One language of an intent: names put into templates, written questions, the answer."""

    about: tuple[str, ...]
    ask: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing that a person may want to know."""

    name: str
    kind: str
    sides: dict[str, Side]

    @property
    def is_unknown(self) -> bool:
        """True for what the seedling should say it does not know."""
        return self.name.startswith(UNKNOWN)


@dataclass(frozen=True, slots=True)
class Phrasing:
    """One question as a person would type it."""

    intent: Intent
    language: str
    text: str
    written: bool
    held_out: bool

    @property
    def answer(self) -> str:
        """The reference answer in the language of the question."""
        return self.intent.sides[self.language].answer


def normalise(text: str) -> str:
    """Reduce a text to its letters and digits in lower case, to compare two texts."""
    return re.sub(r"[\W_]+", "", text.casefold())


def fill(template: str, name: str) -> str:
    """Put a name into a template, with a space wherever Chinese meets Latin letters."""
    text = template.replace("{}", name)
    text = re.sub(r"([\u4e00-\u9fff])([A-Za-z0-9/])", r"\1 \2", text)
    text = re.sub(r"([A-Za-z0-9/])([\u4e00-\u9fff])", r"\1 \2", text)
    return re.sub(r"  +", " ", text)


def is_held_out(key: str) -> bool:
    """Decide by content alone, so that a phrasing never changes sides."""
    digest = hashlib.sha256(normalise(key).encode()).digest()
    return digest[0] % HELD_OUT_SHARE == 0


def parse_intent(entry: Mapping[str, object], origin: str) -> Intent:
    """Build an intent from a TOML table; KeyError or ValueError names what is wrong."""
    name, kind = str(entry["name"]), str(entry["kind"])
    if (kind, "english") not in TEMPLATES:
        raise ValueError(f"{origin}: intent {name} has the unknown kind {kind}")
    sides = {}
    for language in LANGUAGES:
        about, ask = entry.get(f"about_{language}", []), entry.get(f"ask_{language}", [])
        answer = entry[language]
        if not (isinstance(about, list) and isinstance(ask, list) and isinstance(answer, str)):
            raise ValueError(f"{origin}: intent {name} has a field of the wrong type")
        sides[language] = Side(tuple(about), tuple(ask), answer.strip())
    return Intent(name, kind, sides)


def load_intents(folder: Path = QUESTIONS) -> tuple[Intent, ...]:
    """Read every question file, in the order of their names."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["intent"]
        found += [parse_intent(entry, path.name) for entry in entries]
    return tuple(found)


def phrasings_of(intent: Intent, language: str) -> list[Phrasing]:
    """Expand one language of an intent; no text comes twice.

    A Chinese text has Chinese in it: `KV cache` alone is answered in English. What the seedling
    must not know is held out by subject, everything else by phrasing.
    """
    side = intent.sides[language]
    candidates = [(text, True, text) for text in side.ask]
    for name in side.about:
        for template in TEMPLATES[intent.kind, language]:
            text = fill(template, name)
            if language == "chinese" and not re.search("[\u4e00-\u9fff]", text):
                continue
            candidates.append((text, False, name if intent.is_unknown else text))
    seen: set[str] = set()
    result = []
    for text, written, key in candidates:
        if normalise(text) not in seen:
            seen.add(normalise(text))
            result.append(Phrasing(intent, language, text, written, is_held_out(key)))
    return result


def all_phrasings(intents: tuple[Intent, ...]) -> list[Phrasing]:
    """Expand every intent in both languages."""
    return list(
        chain.from_iterable(
            phrasings_of(intent, language) for intent in intents for language in LANGUAGES
        )
    )


def fresh_phrasings(intents: tuple[Intent, ...], path: Path = FRESH) -> list[Phrasing]:
    """Read the questions that were written last and are never trained on; KeyError if unknown."""
    named = {intent.name: intent for intent in intents}
    named[UNKNOWN] = next(intent for intent in intents if intent.is_unknown)
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return [
        Phrasing(named[name], language, text, written=True, held_out=True)
        for language in LANGUAGES
        for name, texts in tables[language].items()
        for text in texts
    ]
