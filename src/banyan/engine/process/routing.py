"""Which replica answers a request: the one that would begin it soonest, as far as is known. Pure.

A replica that computed a beginning of a prompt before computes only the rest. So a request goes
where what waits and runs, and the rest of its own prompt, are least for the speed of the replica;
conversations stay where they are until their replica has more to do than they save there.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from banyan.engine.cache.key_value_blocks import BLOCK_SIZE

ANSWER_WORTH = 128
"""How many tokens of prompts an answer under way counts as, while nobody knows its length."""


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What is known of a replica.

    Attributes:
        speed: against that of others.
        owed_tokens: tokens of prompts that it was given and that are not computed, and
            `ANSWER_WORTH` for every answer under way.
        cached_tokens: of the beginning of the prompt at hand, that it computed before.
        is_ready: it takes requests.
    """

    speed: float
    owed_tokens: int
    cached_tokens: int = 0
    is_ready: bool = True


def choose_replica(loads: Sequence[ReplicaLoad], num_prompt_tokens: int) -> int | None:
    """The replica that would begin a prompt soonest, the first of equals; None when none is ready.

    Args:
        loads: of all replicas.
        num_prompt_tokens: of the request.
    """
    ready = [number for number, load in enumerate(loads) if load.is_ready]

    def wait(number: int) -> float:
        load = loads[number]
        own = max(num_prompt_tokens - load.cached_tokens, 0)
        return (load.owed_tokens + own) / load.speed

    return min(ready, key=wait, default=None)


class PrefixDirectory:
    """Which replica computed which beginnings of prompts, in whole blocks of tokens.

    Remembers the blocks that were routed last; what a replica forgot meanwhile costs a guess that
    is wrong, and no answer.

    Args:
        most_blocks: that are remembered, of all replicas together.
    """

    def __init__(self, most_blocks: int) -> None:
        self._most_blocks = most_blocks
        self._holders: OrderedDict[int, set[int]] = OrderedDict()

    def cached_tokens(
        self, prompt: Sequence[int], key: object, num_replicas: int
    ) -> tuple[int, ...]:
        """How many tokens at the beginning of a prompt each replica computed before.

        `key` is what requests share caches by, such as their adapter.
        """
        found = [0] * num_replicas
        alive = set(range(num_replicas))
        for number, block in enumerate(_blocks(prompt, key), start=1):
            alive &= self._holders.get(block, set())
            if not alive:
                break
            for replica in alive:
                found[replica] = number * BLOCK_SIZE
        return tuple(found)

    def note(self, prompt: Sequence[int], key: object, replica: int) -> None:
        """A replica computes a prompt."""
        for block in _blocks(prompt, key):
            self._holders.setdefault(block, set()).add(replica)
            self._holders.move_to_end(block)
        while len(self._holders) > self._most_blocks:
            self._holders.popitem(last=False)

    def forget(self, replica: int) -> None:
        """A replica died, and its cache with it."""
        for block, holders in list(self._holders.items()):
            holders.discard(replica)
            if not holders:
                del self._holders[block]


def _blocks(prompt: Sequence[int], key: object) -> Iterator[int]:
    """A number for each whole block, which follows from all tokens up to its end."""
    number = hash(key)
    for start in range(0, len(prompt) - BLOCK_SIZE + 1, BLOCK_SIZE):
        number = hash((number, *prompt[start : start + BLOCK_SIZE]))
        yield number
