"""Words that are no part of Banyan, for questions the seedling must not pretend to answer."""

import re
from collections import Counter
from collections.abc import Iterable

from seedling.data import Passage
from seedling.intents import LANGUAGES, Intent

WORD = re.compile(r"[A-Za-z][A-Za-z-]{3,13}[A-Za-z]")
NUM_WORDS = 3000
RAREST = 3


def stray_words(passages: Iterable[Passage], intents: tuple[Intent, ...]) -> list[str]:
    """Return words of the outside passages that no question or answer about Banyan uses."""
    counted: Counter[str] = Counter()
    for passage in passages:
        if passage.source != "Banyan":
            counted.update(WORD.findall(passage.text))
    sides = [intent.sides[language] for intent in intents for language in LANGUAGES]
    known = " ".join(" ".join((*side.about, *side.ask, side.answer)) for side in sides).casefold()
    own = set(re.findall(r"[a-z]+", known))
    outside = [
        word
        for word, count in sorted(counted.items())
        if count >= RAREST and own.isdisjoint(re.findall(r"[a-z]+", word.casefold()))
    ]
    stride = max(1, len(outside) // NUM_WORDS)
    return outside[::stride]
