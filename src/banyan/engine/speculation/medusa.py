"""Guess with Medusa heads: each says one word further on, from the same hidden state.

After Cai et al. 2024 (arXiv:2401.10774), with the likeliest word of each head and no tree of
alternatives: a guess is certain, and checking it needs no probabilities. Legend: S sequences, N
heads.
"""

from collections.abc import Sequence

import numpy as np

from banyan.engine.runner import StepModel
from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.speculation.hidden_log import HiddenLog
from banyan.engine.speculation.proposer import DraftDemand

LEAST_CHANCE = 0.2
"""Guesses end where the head gives all of them together less than this."""


class Medusa:
    """Asks all heads at once, for all sequences.

    Args:
        model: the compiled heads.
        log: what the decoder's steps said.
        least_chance: see `LEAST_CHANCE`.
    """

    is_free = False

    def __init__(
        self, model: StepModel, log: HiddenLog, *, least_chance: float = LEAST_CHANCE
    ) -> None:
        self._model = model
        self._log = log
        self._least_chance = least_chance

    def propose(self, demands: Sequence[DraftDemand]) -> list[list[int]]:
        """Guess from the state of the newest token that was computed."""
        found: list[list[int]] = [[] for _ in demands]
        rows, places = [], []
        for place, demand in enumerate(demands):
            # The newest token itself is not computed yet.
            row = self._log.last(demand.sequence_id, len(demand.token_ids) - 1)
            if row is not None:
                rows.append(row)
                places.append(place)
        if not rows:
            return found
        results = self._model.run({"hidden": np.stack(rows)})
        words_SN, chances_SN = results["token_ids"].tolist(), results["chances"].cumprod(axis=1)
        for place, words, chances in zip(places, words_SN, chances_SN.tolist(), strict=True):
            likely = sum(chance >= self._least_chance for chance in chances)
            found[place] = words[: min(likely, demands[place].most)]
        return found

    def forget(self, sequence_id: SequenceId) -> None:
        """Drop the states of a sequence."""
        self._log.forget(sequence_id)
