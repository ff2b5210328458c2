"""What is asked, and when: synthetic requests from a seed. Pure; the same seed asks the same.

Lengths of the mixes: "sharegpt" has the shape of that collection of conversations (most prompts
short, with a long tail), drawn from log-normal distributions; "long-prompt" reads documents and
answers briefly; "fixed" asks the lengths it is given.
"""

import math
import random
from dataclasses import dataclass

from banyan.foundation.errors import InputError

MIXES = ("sharegpt", "long-prompt", "fixed")

# One token each in most vocabularies, with the space before them.
_WORDS = (
    "the of and to in is that it was for on are as with his they at be this from have or by one "
    "had not but what all were when we there can an your which their said if do will each about "
    "how up out them then she many some so these would other into has more her two like him see "
    "time could no make than first been its who now people my made over did down only way find"
).split()
_FREQUENT = 3


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of the prompt and of the answer."""

    prompt: int
    answer: int


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        at: seconds after the start.
        prompt: its text; about `lengths.prompt` tokens.
        lengths: what is asked for.
    """

    at: float
    prompt: str
    lengths: Lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A load to be made.

    Attributes:
        mix: one of `MIXES`.
        num_requests: how many.
        rate: requests in a second on average, in a Poisson process; infinite sends all at once.
        seed: chooses lengths, words and times.
        fixed: the lengths of the mix "fixed".
    """

    mix: str = "sharegpt"
    num_requests: int = 100
    rate: float = math.inf
    seed: int = 0
    fixed: Lengths = Lengths(512, 128)

    def __post_init__(self) -> None:
        if self.mix not in MIXES:
            raise InputError(f"mix={self.mix!r} is not known; use one of {', '.join(MIXES)}")
        if not self.rate > 0:
            raise InputError(f"rate={self.rate} cannot be used; give a number above 0")

    def asks(self) -> list[Ask]:
        """All requests in the order of their times."""
        chance = random.Random(self.seed)
        found, now = [], 0.0
        for number in range(self.num_requests):
            lengths = self._lengths(chance)
            found.append(Ask(now, _text(chance, lengths.prompt, number), lengths))
            now += chance.expovariate(self.rate) if math.isfinite(self.rate) else 0.0
        return found

    def _lengths(self, chance: random.Random) -> Lengths:
        if self.mix == "fixed":
            return self.fixed
        if self.mix == "long-prompt":
            return Lengths(chance.randint(1500, 4000), chance.randint(32, 160))
        return Lengths(
            _between(4, chance.lognormvariate(math.log(90), 1.2), 1024),
            _between(4, chance.lognormvariate(math.log(140), 0.8), 512),
        )


def _between(low: int, value: float, high: int) -> int:
    return min(max(int(value), low), high)


def _text(chance: random.Random, num_words: int, number: int) -> str:
    """Words of about a token each; the number keeps prompts from beginning alike."""
    words = chance.choices(_WORDS, k=max(1, num_words - _FREQUENT))
    return f"{number}. " + " ".join(words)
