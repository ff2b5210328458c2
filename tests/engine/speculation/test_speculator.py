"""An engine with guesses, right and wrong, gives to the last token what it gives without."""

from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.engine.engine import Engine
from banyan.engine.events import TokenEvent
from banyan.engine.fake import fake_engine
from banyan.engine.sampling import SamplingOptions
from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.speculation.proposer import DraftDemand
from banyan.engine.speculation.speculator import Speculator

PROMPTS = (b"one", b"the second prompt", b"a third, longer than a block of tokens", b"4")
CHOICES = (
    SamplingOptions(temperature=0.0, max_tokens=30),
    SamplingOptions(temperature=0.9, seed=5, max_tokens=25),
    SamplingOptions(temperature=0.0, max_tokens=40, frequency_penalty=0.7, min_tokens=9),
    SamplingOptions(temperature=0.0, max_tokens=33, logprobs=2, stop=["q", "xy"]),
    SamplingOptions(temperature=0.0, max_tokens=29, stop_token_ids=[ord("e"), ord("m")]),
    SamplingOptions(
        temperature=1.2, top_k=4, seed=1, max_tokens=8, include_stop_str_in_output=True
    ),
)


class Prophet:
    """Knows each answer beforehand, and is wrong at every `wrong`-th place."""

    is_free = True

    def __init__(self, answers: Sequence[list[int]], *, wrong: int) -> None:
        self._answers = answers
        self._wrong = wrong
        self.forgotten: list[SequenceId] = []

    def propose(self, demands: Sequence[DraftDemand]) -> list[list[int]]:
        return [self._guess(demand) for demand in demands]

    def _guess(self, demand: DraftDemand) -> list[int]:
        assert demand.most > 0
        for prompt, answer in zip(PROMPTS, self._answers, strict=True):
            place = len(demand.token_ids) - len(prompt)
            if list(prompt) == list(demand.token_ids)[: len(prompt)] and place > 0:
                guesses = answer[place : place + demand.most]
                return [
                    token if (place + i) % self._wrong else (token + 1) % 256
                    for i, token in enumerate(guesses)
                ]
        return []

    def forget(self, sequence_id: SequenceId) -> None:
        self.forgotten.append(sequence_id)


def run(engine: Engine, choices: Sequence[SamplingOptions]) -> list[list[TokenEvent]]:
    for number, (prompt, options) in enumerate(zip(PROMPTS, choices, strict=True)):
        engine.add_request(str(number), prompt, options)
    events: dict[str, list[TokenEvent]] = defaultdict(list)
    while engine.has_work():
        for event in engine.step():
            events[event.request_id].append(event)
    return [events[str(number)] for number in range(len(PROMPTS))]


def summary(events: list[TokenEvent]) -> tuple[object, ...]:
    last = events[-1]
    return (
        [token_id for event in events for token_id in event.token_ids],
        "".join(event.text for event in events),
        [entry for event in events for entry in event.logprobs or ()],
        last.finish_reason,
        last.stop_reason,
        last.num_generated_tokens,
    )


def tokens(events: list[TokenEvent]) -> list[int]:
    return [token_id for event in events for token_id in event.token_ids]


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.sampled_from(CHOICES)] * 4),
    st.integers(2, 9),
    st.integers(1, 20),
    st.integers(6, 24),
    st.integers(4, 40),
    st.sampled_from([None, 50]),
)
def test_guesses_never_change_an_answer_and_every_block_comes_back(
    choices: tuple[SamplingOptions, ...],
    wrong: int,
    most: int,
    num_blocks: int,
    token_budget: int,
    end_after: int | None,
) -> None:
    plain = run(fake_engine(max_model_len=96, end_after=end_after), choices)
    prophet = Prophet([tokens(events) for events in plain], wrong=wrong)
    engine = fake_engine(
        max_model_len=96,
        max_num_seqs=4,
        num_blocks=num_blocks,
        token_budget=token_budget,
        end_after=end_after,
        speculator=Speculator(prophet, most=most, always=True),
    )
    guessed = run(engine, choices)
    assert [summary(events) for events in guessed] == [summary(events) for events in plain]
    assert engine.statistics().num_free_blocks == num_blocks
    # One that had to wait was forgotten then, too: its room is for those who write.
    assert set(prophet.forgotten) == {1, 2, 3, 4}


@pytest.mark.parametrize("max_tokens", [1, 2, 7, 16])
def test_right_guesses_save_steps_and_never_go_past_the_longest_answer(max_tokens: int) -> None:
    choices = [SamplingOptions(temperature=0.0, max_tokens=max_tokens)] * 4
    plain = run(fake_engine(), choices)
    prophet = Prophet([tokens(events) for events in plain], wrong=1000)
    engine = fake_engine(speculator=Speculator(prophet, most=4, always=True))
    guessed = run(engine, choices)
    assert [summary(events) for events in guessed] == [summary(events) for events in plain]
    # The prompts, the token behind them, then five tokens at a time.
    assert engine.statistics().num_steps <= 2 + -(-(max_tokens - 1) // 5) + 1
    statistics = engine.statistics()
    assert statistics.tokens_accepted == statistics.tokens_drafted
    assert statistics.tokens_generated == 4 * max_tokens


def test_wrong_guesses_are_counted_and_cost_no_extra_step() -> None:
    choices = [SamplingOptions(temperature=0.0, max_tokens=12)] * 4
    plain_engine = fake_engine()
    plain = run(plain_engine, choices)
    prophet = Prophet([tokens(events) for events in plain], wrong=1)
    engine = fake_engine(speculator=Speculator(prophet, most=3, always=True))
    assert [tokens(events) for events in run(engine, choices)] == [tokens(e) for e in plain]
    assert engine.statistics().num_steps == plain_engine.statistics().num_steps
    assert engine.statistics().tokens_accepted == 0
    assert engine.statistics().tokens_drafted > 0


class Silent:
    """Takes its time and has nothing to say."""

    is_free = False

    def __init__(self) -> None:
        self.num_asked = 0

    def propose(self, demands: Sequence[DraftDemand]) -> list[list[int]]:
        self.num_asked += 1
        return [[] for _ in demands]

    def forget(self, sequence_id: SequenceId) -> None:
        """Nothing to forget."""


def test_who_is_asked_for_guesses_and_has_none_is_asked_less_and_less() -> None:
    proposer = Silent()
    # Only steps take time, so that it is not the time spent in vain that makes it rest.
    speculator = Speculator(proposer, most=4, clock=lambda: engine.statistics().num_steps)
    engine = fake_engine(speculator=speculator)
    engine.add_request("a", b"hello", SamplingOptions(temperature=0.0, max_tokens=200))
    while engine.has_work():
        engine.step()
    assert 0 < proposer.num_asked < 40
