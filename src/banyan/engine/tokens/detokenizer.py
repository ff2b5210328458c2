"""Tokens to text, a little at a time.

Never splits a character and never lets out text that may turn out to be the start of a stop
string. Knows nothing of requests; one `TextStream` belongs to one answer.
"""

from collections.abc import Sequence
from typing import Protocol

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# How many prompt tokens the text is continued from: enough for any tokenizer to see that the first
# word of the answer is not the first word of the text, and so to keep the space before it.
_CONTEXT_TOKENS = 5

# No character is made of more tokens than this; text that is still broken then stays broken.
_MOST_TOKENS_HELD = 12


class TextDecoder(Protocol):
    """What is needed of a tokenizer."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of the tokens; incomplete characters as U+FFFD."""
        ...


class IncrementalDetokenizer:
    """Turns the tokens of one answer into text as they come.

    A tokenizer's `decode` is not a sum over tokens (spaces and bytes depend on neighbours), so the
    text of a short window of tokens is compared before and after each new token.
    """

    def __init__(
        self,
        tokenizer: TextDecoder,
        prompt_token_ids: Sequence[int] = (),
        *,
        skip_special_tokens: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._window = list(prompt_token_ids[-_CONTEXT_TOKENS:])
        self._num_settled = len(self._window)
        # Characters of the window's text that are already out.
        self._num_out = len(self._decode(self._window)) if self._window else 0

    def push(self, token_id: int) -> str:
        """Add a token; returns the text that is complete now, often of this token alone."""
        self._window.append(token_id)
        text = self._decode(self._window)
        whole = text.rstrip(REPLACEMENT)
        num_held = len(self._window) - self._num_settled
        if len(whole) == len(text) or num_held >= _MOST_TOKENS_HELD:
            return self._settle(text)
        new = whole[self._num_out :]
        self._num_out = max(self._num_out, len(whole))
        return new

    def flush(self) -> str:
        """End of the answer: returns what is left, broken characters included."""
        if self._num_settled == len(self._window):
            return ""
        return self._settle(self._decode(self._window))

    def _settle(self, text: str) -> str:
        new = text[self._num_out :]
        # The settled tokens stay as context for the next ones, the older ones go.
        self._window = self._window[self._num_settled :]
        self._num_settled = len(self._window)
        self._num_out = len(self._decode(self._window))
        return new

    def _decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=self._skip_special_tokens)


class StopStringFinder:
    """Finds the first stop string in text that comes in pieces of any size."""

    def __init__(self, stop_strings: Sequence[str], *, include_in_output: bool = False) -> None:
        self._stop_strings = tuple(stop_strings)
        self._include_in_output = include_in_output
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """Add text; returns what may go out. After a stop string is found nothing more does."""
        if not self._stop_strings:
            return text
        if self.found is not None:
            return ""
        held = self._held + text
        matches = [
            (place, -len(stop), stop)
            for stop in self._stop_strings
            if (place := held.find(stop)) >= 0
        ]
        if matches:
            place, _, self.found = min(matches)
            self._held = ""
            return held[: place + len(self.found)] if self._include_in_output else held[:place]
        num_out = len(held) - self._num_possible_start(held)
        self._held = held[num_out:]
        return held[:num_out]

    def flush(self) -> str:
        """Return what was held back; call at the end of the answer."""
        held, self._held = self._held, ""
        return held

    def _num_possible_start(self, text: str) -> int:
        """Length of the longest end of `text` that is the start of a stop string."""
        longest = 0
        for stop in self._stop_strings:
            for size in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:size]):
                    longest = size
                    break
        return longest


class TextStream:
    """The text of one answer: detokenizer and stop strings, or no text without a tokenizer."""

    def __init__(
        self,
        detokenizer: IncrementalDetokenizer | None,
        finder: StopStringFinder,
    ) -> None:
        self._detokenizer = detokenizer
        self._finder = finder

    @property
    def found_stop(self) -> str | None:
        """The stop string that was found, None so far."""
        return self._finder.found

    def push(self, token_id: int, *, may_stop: bool = True) -> str:
        """Add a token and return the text that may go out; stops are ignored unless `may_stop`."""
        if self._detokenizer is None:
            return ""
        text = self._detokenizer.push(token_id)
        return self._finder.push(text) if may_stop else text

    def finish(self) -> str:
        """End of the answer: return all that was held back, unless a stop string was found."""
        if self._detokenizer is None or self._finder.found is not None:
            return ""
        rest = self._finder.push(self._detokenizer.flush())
        return rest + self._finder.flush()
