"""Guess by looking up: text that repeats goes on as it went on before.

After Saxena 2023, "Prompt Lookup Decoding", with the index of a Lempel-Ziv compressor (hash chains,
as in Deutsch 1996, RFC 1951, section 4): each token costs one dictionary entry, and finding the
longest earlier match walks a short chain instead of scanning the text.
"""

from collections.abc import Sequence

from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.speculation.proposer import DraftDemand

# A long prompt is read little by little, so that nobody waits for it: about 2 ms a step.
MOST_READ = 8192

# Earlier places that are tried, newest first: a common phrase has many, and the newest is as good.
MOST_PLACES = 8


class PromptLookup:
    """Guesses what followed the longest earlier match of the newest tokens.

    Args:
        shortest: tokens that must match, 1 or more.
        longest: a match is not looked at beyond this many tokens.
    """

    is_free = True

    def __init__(self, *, shortest: int, longest: int) -> None:
        self._shortest = shortest
        self._longest = longest
        self._texts: dict[SequenceId, _IndexedText] = {}

    def propose(self, demands: Sequence[DraftDemand]) -> list[list[int]]:
        """Return up to `most` guesses for each demand."""
        return [self._look_up(demand) for demand in demands]

    def forget(self, sequence_id: SequenceId) -> None:
        """Drop the index of a sequence."""
        self._texts.pop(sequence_id, None)

    def _look_up(self, demand: DraftDemand) -> list[int]:
        text = self._texts.get(demand.sequence_id)
        if text is None:
            text = self._texts[demand.sequence_id] = _IndexedText(demand.token_ids, self._shortest)
        place = text.find(self._longest)
        return [] if place is None else _continuation(demand.token_ids, place, demand.most)


class _IndexedText:
    """Tokens that grow at the end, and where each run of `size` tokens stood before."""

    def __init__(self, token_ids: Sequence[int], size: int) -> None:
        self._token_ids = token_ids
        self._size = size
        # A run of tokens -> where its newest occurrence ends (the place behind it).
        self._newest: dict[tuple[int, ...], int] = {}
        # For each such place, where the same run ended before; 0 for nowhere, no run ends there.
        self._earlier: list[int] = [0] * size

    def find(self, longest: int) -> int | None:
        """The place behind the longest earlier match of the last tokens, the newest of equals."""
        tokens, size = self._token_ids, self._size
        end = len(tokens)
        self._add_up_to(min(end, len(self._earlier) + MOST_READ))
        if len(self._earlier) <= end:
            return None
        place, best, best_length = self._earlier[end], None, 0
        for _ in range(MOST_PLACES):
            if place == 0:
                break
            length, most = size, min(longest, place)
            while length < most and tokens[place - 1 - length] == tokens[end - 1 - length]:
                length += 1
            if length > best_length:
                best, best_length = place, length
                if length == longest:
                    break
            place = self._earlier[place]
        return best

    def _add_up_to(self, end: int) -> None:
        tokens, size = self._token_ids, self._size
        newest, earlier = self._newest, self._earlier
        for place in range(len(earlier), end + 1):
            run = tuple(tokens[place - size : place])
            earlier.append(newest.get(run, 0))
            newest[run] = place


def _continuation(token_ids: Sequence[int], place: int, count: int) -> list[int]:
    """The `count` tokens from `place` on; where the text ends, the guess repeats itself."""
    guesses = list(token_ids[place : place + count])
    period = len(token_ids) - place
    while len(guesses) < count:
        guesses.append(guesses[len(guesses) - period])
    return guesses
