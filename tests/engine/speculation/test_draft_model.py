"""A draft model beside an engine: when it is the same model every guess must be right.

The fake model's tokens depend on every token it sees through its cache, so a draft model that mixes
up its blocks, lanes or positions guesses wrongly, and the counters tell.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from banyan.engine.engine import Engine
from banyan.engine.fake import FakeModel, fake_engine
from banyan.engine.options import EngineLimits
from banyan.engine.runner import StepModel
from banyan.engine.sampling import SamplingOptions
from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.speculation.draft_model import DraftModel
from banyan.engine.speculation.proposer import DraftDemand
from banyan.engine.speculation.speculator import Speculator

PROMPTS = (b"one", b"the second prompt", b"a third, longer than a block of tokens" * 2, b"4")


class OftenWrong(StepModel):
    """A fake model whose likeliest token is another one at every third position."""

    def __init__(self, num_blocks: int) -> None:
        self._model = FakeModel(num_blocks)

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        logits = self._model.run(arguments)["logits"]
        wrong = arguments["positions"][arguments["logit_rows"]] % 3 == 0
        logits[wrong, 7] += 9
        return {"logits": logits}


def limits_of(*, num_blocks: int = 64, max_model_len: int = 256, lanes: int = 8) -> EngineLimits:
    return EngineLimits(
        max_model_len=max_model_len, max_num_seqs=lanes, token_budget=16, num_blocks=num_blocks
    )


def draft_of(limits: EngineLimits, model: Any = None) -> DraftModel:
    return DraftModel(model or FakeModel(limits.num_blocks), limits, vocab_size=260)


def run(engine: Engine, max_tokens: int = 30) -> dict[str, list[int]]:
    tokens: dict[str, list[int]] = defaultdict(list)
    for number, prompt in enumerate(PROMPTS):
        options = SamplingOptions(temperature=0.0, max_tokens=max_tokens + number)
        engine.add_request(str(number), prompt, options)
    while engine.has_work():
        for event in engine.step():
            tokens[event.request_id].extend(event.token_ids)
    return tokens


@pytest.mark.parametrize("num_blocks", [20, 128])
def test_the_same_model_guesses_everything_right_also_after_preemption(num_blocks: int) -> None:
    speculator = Speculator(draft_of(limits_of()), most=4, always=True)
    engine = fake_engine(num_blocks=num_blocks, speculator=speculator)
    assert run(engine) == run(fake_engine())
    statistics = engine.statistics()
    assert statistics.tokens_accepted == statistics.tokens_drafted > 80


@pytest.mark.parametrize("always", [True, False])
def test_a_model_that_is_often_wrong_changes_nothing_and_is_right_in_between(always: bool) -> None:
    limits = limits_of()
    draft = draft_of(limits, OftenWrong(limits.num_blocks))
    engine = fake_engine(speculator=Speculator(draft, most=4, always=always))
    assert run(engine, 60) == run(fake_engine(), 60)
    statistics = engine.statistics()
    assert 0 < statistics.tokens_accepted < statistics.tokens_drafted


@pytest.mark.parametrize(
    "limits",
    [
        limits_of(num_blocks=4, max_model_len=64),
        limits_of(max_model_len=24),
        limits_of(lanes=1),
    ],
    ids=["too few blocks", "a shorter context", "one lane"],
)
def test_a_sequence_without_room_in_the_draft_model_goes_on_without_guesses(
    limits: EngineLimits,
) -> None:
    engine = fake_engine(speculator=Speculator(draft_of(limits), most=4, always=True))
    assert run(engine) == run(fake_engine())
    statistics = engine.statistics()
    assert statistics.tokens_accepted == statistics.tokens_drafted > 0


def guesses(draft: DraftModel, tokens: Sequence[int], most: int) -> list[int]:
    return draft.propose([DraftDemand(SequenceId(1), tokens, most)])[0]


def test_guesses_that_were_right_are_not_computed_again() -> None:
    limits = limits_of()
    model = FakeModel(limits.num_blocks)
    draft = draft_of(limits, model)
    tokens = list(b"hello")
    first = guesses(draft, tokens, 3)
    assert model.num_runs == 3
    # All right, and the model's own token behind them: that one and the last guess are computed.
    tokens += [*first, *guesses(draft_of(limits), [*tokens, *first], 1)]
    assert guesses(draft, tokens, 1) == guesses(draft_of(limits), tokens, 1)
    assert model.num_runs == 4
    # One right, then another token.
    wrong = [*tokens, guesses(draft, tokens, 2)[0], 7]
    assert guesses(draft, wrong, 2) == guesses(draft_of(limits), wrong, 2)


def test_a_guess_that_the_other_model_has_no_word_for_ends_the_guesses() -> None:
    limits = limits_of()
    draft = DraftModel(FakeModel(limits.num_blocks), limits, vocab_size=97)
    assert guesses(draft, list(b"hello"), 3) == []


def test_a_forgotten_sequence_gives_its_room_back() -> None:
    limits = limits_of(num_blocks=4, max_model_len=64, lanes=1)
    draft = draft_of(limits)
    for number in range(5):
        demand = DraftDemand(SequenceId(number), list(range(40)), 8)
        assert len(draft.propose([demand])[0]) == 8
        draft.forget(SequenceId(number))
    draft.forget(SequenceId(99))
