"""Changes to the logits of one sequence before a token is chosen: penalties, bias, what is banned.

Keeps what the sequence has already said as two growing arrays, so that a step costs one gather and
one scatter however long the answer is.
"""

from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from banyan.engine.sampling import SamplingOptions

FloatArray = NDArray[np.float32]


class LogitsEditor:
    """The changes that one sequence's options ask for; V words in the vocabulary.

    `end_token_ids` are impossible until `min_tokens` tokens are generated.
    """

    def __init__(
        self,
        options: SamplingOptions,
        prompt_token_ids: Iterable[int],
        *,
        end_token_ids: Iterable[int],
    ) -> None:
        self._options = options
        self._bias = _TokenNumbers(options.logit_bias or {})
        # Prompt tokens take part in the repetition penalty only: they count zero times.
        self._counts = _TokenNumbers(
            dict.fromkeys(prompt_token_ids, 0.0) if options.repetition_penalty != 1.0 else {}
        )
        self._end_token_ids = np.array(sorted(set(end_token_ids)), dtype=np.int64)
        self._num_generated = 0
        allowed = options.allowed_token_ids
        self._allowed_ids = None if allowed is None else np.array(sorted(set(allowed)))
        self._bad = tuple(map(tuple, options.bad_token_sequences))
        # So many of the newest tokens decide which sequence is about to be completed.
        self._recent: deque[int] = deque(maxlen=max((len(bad) - 1 for bad in self._bad), default=0))

    def observe(self, token_id: int) -> None:
        """Note a token of the answer."""
        self._num_generated += 1
        self._counts.add(token_id, 1.0)
        self._recent.append(token_id)

    def edit(self, logits_V: FloatArray) -> FloatArray:
        """Return changed logits; the argument stays as it is."""
        if self._allowed_ids is None:
            edited_V = logits_V.copy()
        else:
            edited_V = np.full_like(logits_V, -np.inf)
            edited_V[self._allowed_ids] = logits_V[self._allowed_ids]
        # Bias first, as in vLLM: the repetition penalty scales it too.
        bias_ids, biases = self._bias.arrays()
        if len(bias_ids):
            edited_V[bias_ids] += biases
        ids, counts = self._counts.arrays()
        if len(ids):
            edited_V[ids] = self._penalised(edited_V[ids], counts)
        if self._num_generated < self._options.min_tokens:
            edited_V[self._end_token_ids] = -np.inf
        if self._bad:
            edited_V[self._completing()] = -np.inf
        return edited_V

    def _completing(self) -> list[int]:
        """Last tokens of the banned sequences whose other tokens are the newest of the answer."""
        recent = tuple(self._recent)
        return [bad[-1] for bad in self._bad if len(bad) == 1 or recent[1 - len(bad) :] == bad[:-1]]

    def _penalised(self, values: FloatArray, counts: FloatArray) -> FloatArray:
        options = self._options
        repetition = np.float32(options.repetition_penalty)
        values = np.where(values > 0, values / repetition, values * repetition)
        values = values - np.float32(options.frequency_penalty) * counts
        return values - np.float32(options.presence_penalty) * (counts > 0).astype(np.float32)


class _TokenNumbers:
    """A growing mapping from token id to a number, kept as arrays."""

    def __init__(self, numbers: Mapping[int, float]) -> None:
        self._places = {token_id: place for place, token_id in enumerate(numbers)}
        room = max(64, 2 * len(numbers))
        self._ids = np.zeros(room, dtype=np.int64)
        self._numbers = np.zeros(room, dtype=np.float32)
        self._ids[: len(numbers)] = list(numbers)
        self._numbers[: len(numbers)] = list(numbers.values())

    def add(self, token_id: int, number: float) -> None:
        place = self._places.setdefault(token_id, len(self._places))
        if place == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._numbers = np.concatenate([self._numbers, np.zeros_like(self._numbers)])
        self._ids[place] = token_id
        self._numbers[place] += number

    def arrays(self) -> tuple[NDArray[np.int64], FloatArray]:
        size = len(self._places)
        return self._ids[:size], self._numbers[:size]
