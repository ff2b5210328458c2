"""What is asked, and when: synthetic requests from a seed. Pure; the same seed asks the same.

Lengths of the mixes: "sharegpt" has the shape of that collection's first turns (most prompts
short, with a long tail), drawn from log-normal distributions; "conversation" goes on with them, so
that each turn's prompt begins with the whole conversation so far; "long-prompt" reads documents
and answers briefly; "fixed" asks the lengths it is given.

What the other side said in a conversation is made up here, too: were it the server's own answer,
two servers would be asked different things.
"""

import math
import random
from dataclasses import dataclass

from banyan.foundation.errors import InputError

MIXES = ("sharegpt", "conversation", "long-prompt", "fixed")

# One token each in most vocabularies, with the space before them.
_WORDS = (
    "the of and to in is that it was for on are as with his they at be this from have or by one "
    "had not but what all were when we there can an your which their said if do will each about "
    "how up out them then she many some so these would other into has more her two like him see "
    "time could no make than first been its who now people my made over did down only way find"
).split()
_FREQUENT = 3
_MOST_TURNS = 8
_MEAN_TURNS = (1 + _MOST_TURNS) / 2


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of the prompt and of the answer."""

    prompt: int
    answer: int


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        at: seconds after the start, or after the end of the answer that it follows.
        prompt: its text; about `lengths.prompt` tokens.
        lengths: what is asked for; of a conversation's turn without what was said before.
        history: what was said before, by the user and the other side in turn.
        follows: the request whose answer must have ended, by its place among all; None for none.
    """

    at: float
    prompt: str
    lengths: Lengths
    history: tuple[str, ...] = ()
    follows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A load to be made.

    Attributes:
        mix: one of `MIXES`.
        num_requests: how many.
        rate: requests in a second on average, in a Poisson process; infinite sends all at once.
            Conversations begin at a rate at which their turns come to as many.
        seed: chooses lengths, words and times.
        fixed: the lengths of the mix "fixed".
        thinking_seconds: mean time between an answer and the next turn of its conversation; with
            an infinite rate there is none.
    """

    mix: str = "sharegpt"
    num_requests: int = 100
    rate: float = math.inf
    seed: int = 0
    fixed: Lengths = Lengths(512, 128)
    thinking_seconds: float = 3.0

    def __post_init__(self) -> None:
        if self.mix not in MIXES:
            raise InputError(f"mix={self.mix!r} is not known; use one of {', '.join(MIXES)}")
        if not self.rate > 0:
            raise InputError(f"rate={self.rate} cannot be used; give a number above 0")
        if not self.thinking_seconds >= 0:
            raise InputError(
                f"thinking_seconds={self.thinking_seconds} cannot be used; give 0 or more"
            )

    def asks(self) -> list[Ask]:
        """All requests, single ones and beginnings of conversations in the order of their times."""
        chance = random.Random(self.seed)
        if self.mix == "conversation":
            return self._conversations(chance)
        found, now = [], 0.0
        for number in range(self.num_requests):
            lengths = self._lengths(chance)
            found.append(Ask(now, _text(chance, lengths.prompt, number), lengths))
            now += self._gap(chance, 1 / self.rate)
        return found

    def _conversations(self, chance: random.Random) -> list[Ask]:
        found: list[Ask] = []
        now = 0.0
        while len(found) < self.num_requests:
            history: tuple[str, ...] = ()
            at, follows = now, None
            for _ in range(chance.randint(1, _MOST_TURNS)):
                lengths = self._lengths(chance)
                prompt = _text(chance, lengths.prompt, len(found))
                found.append(Ask(at, prompt, lengths, history, follows))
                history += (prompt, _text(chance, lengths.answer, len(found)))
                at, follows = self._gap(chance, self.thinking_seconds), len(found) - 1
            now += self._gap(chance, _MEAN_TURNS / self.rate)
        return found[: self.num_requests]

    def _gap(self, chance: random.Random, mean: float) -> float:
        """A time of a Poisson process; none where everything is sent at once."""
        if mean == 0 or math.isinf(self.rate):
            return 0.0
        return chance.expovariate(1 / mean)

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
