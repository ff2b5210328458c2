"""Heads beside an engine: with the right states every guess must be right.

The fake decoder's next token follows from a number that it says as its hidden state, and which the
fake heads roll on. So a state that is noted for another token, another place or another sequence
makes wrong guesses, and the counters tell; and the fake head finds what is wrong in its own cache.
"""

from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from banyan.engine.cache.key_value_blocks import BLOCK_SIZE
from banyan.engine.engine import Engine
from banyan.engine.fake import FakeModel, FakeTokenizer
from banyan.engine.options import EngineLimits
from banyan.engine.request_context import RequestContext
from banyan.engine.runner import StepModel
from banyan.engine.sampling import SamplingOptions
from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.speculation.eagle import Eagle
from banyan.engine.speculation.hidden_log import HiddenLog
from banyan.engine.speculation.medusa import Medusa
from banyan.engine.speculation.proposer import DraftDemand, Proposer
from banyan.engine.speculation.speculator import Speculator

PROMPTS = (b"one", b"the second prompt", b"a third, longer than a block of tokens" * 2, b"4")
NUM_HEADS = 4

Arguments = Mapping[str, NDArray[Any]]


class Adder(StepModel):
    """A decoder whose next token is a letter that follows from the sum of all tokens so far."""

    def __init__(self, num_blocks: int) -> None:
        self.cache = np.full(num_blocks * BLOCK_SIZE, 10**6)

    def run(self, arguments: Arguments) -> dict[str, NDArray[np.float32]]:
        self.cache[arguments["slots"]] = arguments["token_ids"]
        starts, lengths = arguments["query_starts"].tolist(), arguments["context_lengths"].tolist()
        hidden = []
        for sequence, (start, stop) in enumerate(pairwise(starts)):
            places = np.arange(lengths[sequence])
            blocks = arguments["block_tables"][sequence, places // BLOCK_SIZE]
            sums = np.cumsum(self.cache[blocks * BLOCK_SIZE + places % BLOCK_SIZE])
            hidden += [(sums[p], p) for p in range(lengths[sequence] - (stop - start), len(sums))]
        hidden_TH = np.array(hidden, np.float32)
        logits_RV = np.zeros((len(arguments["logit_rows"]), FakeTokenizer.vocab_size), np.float32)
        for row, (total, position) in enumerate(hidden_TH[arguments["logit_rows"]].tolist()):
            logits_RV[row, next_token(total, position)] = 1.0
        return {"logits": logits_RV, "hidden": hidden_TH}


def next_token(total: float, position: float) -> int:
    """What stands behind the token at `position`."""
    return 97 + int(total * 7 + position * 3) % 26


class RollingHead(StepModel):
    """An EAGLE head that adds a token to the state in front of it; remembers both in its cache."""

    def __init__(self, num_blocks: int, *, wrong: int = 10**6) -> None:
        self.cache = np.full((num_blocks * BLOCK_SIZE, 3), -1.0)
        self.num_runs = 0
        self._wrong = wrong

    def run(self, arguments: Arguments) -> dict[str, NDArray[Any]]:
        self.num_runs += 1
        tokens_T = arguments["token_ids"]
        hidden_TH = arguments["hidden"]
        self.cache[arguments["slots"]] = np.column_stack((tokens_T, hidden_TH))
        for sequence, length in enumerate(arguments["context_lengths"].tolist()):
            places = np.arange(length)
            blocks = arguments["block_tables"][sequence, places // BLOCK_SIZE]
            tokens, totals, positions = self.cache[blocks * BLOCK_SIZE + places % BLOCK_SIZE].T
            assert (np.diff(positions) == 1).all(), "a pair is missing or stale"
            assert (np.diff(totals) == tokens[:-1]).all(), "a state of another text"
        after = np.column_stack((hidden_TH[:, 0] + tokens_T, hidden_TH[:, 1] + 1))
        after = after[arguments["logit_rows"]].astype(np.float32)
        words = [next_token(*row) + (int(row[1]) % self._wrong == 0) for row in after.tolist()]
        return {
            "token_ids": np.array(words),
            "chances": np.full(len(words), 0.9, np.float32),
            "hidden": after,
        }


class RollingHeads(StepModel):
    """Medusa heads: the first rolls on over the token that the decoder chose, and so on."""

    def run(self, arguments: Arguments) -> dict[str, NDArray[Any]]:
        words = []
        for state in arguments["hidden"].tolist():
            total, position = state
            row = []
            for _ in range(NUM_HEADS + 1):
                row.append(next_token(total, position))
                total, position = total + row[-1], position + 1
            words.append(row[1:])
        chances = np.tile(np.array([0.9, 0.9, 0.9, 0.1], np.float32), (len(words), 1))
        return {"token_ids": np.array(words), "chances": chances}


def limits_of(*, num_blocks: int = 64, max_model_len: int = 256, lanes: int = 8) -> EngineLimits:
    return EngineLimits(
        max_model_len=max_model_len, max_num_seqs=lanes, token_budget=16, num_blocks=num_blocks
    )


def speculator_of(
    kind: str, *, limits: EngineLimits | None = None, wrong: int = 10**6, always: bool = True
) -> Speculator:
    limits = limits or limits_of()
    log = HiddenLog(most_rows=limits.token_budget)
    proposer: Proposer = Medusa(RollingHeads(), log)
    if kind == "eagle":
        proposer = Eagle(RollingHead(limits.num_blocks, wrong=wrong), limits, log)
    return Speculator(proposer, most=4, always=always, log=log)


def engine_of(speculator: Speculator | None = None, *, num_blocks: int = 128) -> Engine:
    return Engine(
        Adder(num_blocks),
        limits_of(num_blocks=num_blocks),
        vocab_size=FakeTokenizer.vocab_size,
        tokenizer=FakeTokenizer(),
        speculator=speculator,
    )


def run(engine: Engine, max_tokens: int = 30, **options: Any) -> dict[str, list[int]]:
    tokens: dict[str, list[int]] = defaultdict(list)
    for number, prompt in enumerate(PROMPTS):
        chosen = SamplingOptions(**{"temperature": 0.0, **options}, max_tokens=max_tokens + number)
        engine.add_request(str(number), prompt, chosen)
    while engine.has_work():
        for event in engine.step():
            tokens[event.request_id].extend(event.token_ids)
    return tokens


def test_a_sequence_that_has_to_wait_gives_its_place_to_those_that_go_on() -> None:
    limits = limits_of(lanes=1)
    speculator = speculator_of("eagle", limits=limits)
    engine = Engine(
        Adder(limits.num_blocks),
        limits,
        vocab_size=FakeTokenizer.vocab_size,
        tokenizer=FakeTokenizer(),
        speculator=speculator,
    )
    options = SamplingOptions(temperature=0.0, max_tokens=40)
    engine.add_request("slow", PROMPTS[0], options, RequestContext(priority=1))
    for _ in range(4):
        engine.step()
    drafted = engine.statistics().tokens_drafted
    assert drafted > 0
    engine.add_request("urgent", PROMPTS[1], options)
    ended: set[str] = set()
    while "urgent" not in ended:
        ended |= {event.request_id for event in engine.step() if event.finish_reason}
    assert engine.statistics().preemptions == 1
    assert engine.statistics().tokens_drafted >= drafted + 30
    while engine.has_work():
        engine.step()
    assert engine.statistics().tokens_accepted == engine.statistics().tokens_drafted


@pytest.mark.parametrize("num_blocks", [16, 128])
@pytest.mark.parametrize("kind", ["eagle", "medusa"])
def test_right_states_make_right_guesses_also_after_preemption(kind: str, num_blocks: int) -> None:
    engine = engine_of(speculator_of(kind), num_blocks=num_blocks)
    assert run(engine, 90) == run(engine_of(), 90)
    statistics = engine.statistics()
    assert statistics.tokens_accepted == statistics.tokens_drafted > 200
    assert (statistics.preemptions > 0) == (num_blocks == 16)


@pytest.mark.parametrize("kind", ["eagle", "medusa"])
def test_a_prompt_that_was_computed_before_only_shortens_what_a_head_knows(kind: str) -> None:
    engine = engine_of(speculator_of(kind))
    first = run(engine)
    assert run(engine) == first
    statistics = engine.statistics()
    assert statistics.prefix_cache_hits > 0
    assert statistics.tokens_accepted == statistics.tokens_drafted > 140


@pytest.mark.parametrize("always", [True, False])
def test_a_head_that_is_often_wrong_changes_nothing_and_is_right_in_between(always: bool) -> None:
    engine = engine_of(speculator_of("eagle", wrong=3, always=always))
    assert run(engine, 60) == run(engine_of(), 60)
    statistics = engine.statistics()
    assert 0 < statistics.tokens_accepted < statistics.tokens_drafted


@pytest.mark.parametrize("kind", ["eagle", "medusa"])
def test_a_seed_gives_the_same_tokens_with_guesses(kind: str) -> None:
    engine = engine_of(speculator_of(kind))
    assert run(engine, temperature=0.2, seed=3) == run(engine_of(), temperature=0.2, seed=3)
    assert engine.statistics().tokens_accepted > 0


@pytest.mark.parametrize("kind", ["eagle", "medusa"])
def test_heads_are_asked_again_behind_scored_prompts(kind: str) -> None:
    engine = engine_of(speculator_of(kind))
    assert run(engine, prompt_logprobs=1) == run(engine_of(), prompt_logprobs=1)
    statistics = engine.statistics()
    assert statistics.tokens_accepted == statistics.tokens_drafted > 70


@pytest.mark.parametrize(
    "limits",
    [
        limits_of(num_blocks=4, max_model_len=64),
        limits_of(max_model_len=24),
        limits_of(lanes=1),
    ],
    ids=["too few blocks", "a shorter context", "one lane"],
)
def test_a_sequence_without_room_in_the_head_goes_on_without_guesses(limits: EngineLimits) -> None:
    engine = engine_of(speculator_of("eagle", limits=limits))
    assert run(engine) == run(engine_of())
    statistics = engine.statistics()
    assert statistics.tokens_accepted == statistics.tokens_drafted > 0


def test_guesses_end_where_all_of_them_together_are_unlikely() -> None:
    log = HiddenLog(most_rows=16)
    heads = Medusa(RollingHeads(), log, least_chance=0.8)
    log.note(SequenceId(1), 0, np.array([[5.0, 0.0]], np.float32))
    assert len(heads.propose([DraftDemand(SequenceId(1), [5, next_token(5, 0)], 4)])[0]) == 2
    eagle = Eagle(RollingHead(64), limits_of(), log, least_chance=0.8)
    assert len(eagle.propose([DraftDemand(SequenceId(1), [5, next_token(5, 0)], 4)])[0]) == 2


def test_what_was_guessed_right_is_read_once_more_with_its_own_state() -> None:
    log, model = HiddenLog(most_rows=16), RollingHead(64)
    eagle = Eagle(model, limits_of(), log)
    tokens = [5]
    states = [(5.0, 0.0)]
    for _ in range(6):
        tokens.append(next_token(*states[-1]))
        states.append((states[-1][0] + tokens[-1], states[-1][1] + 1))
    rows = np.array(states, np.float32)
    log.note(SequenceId(1), 0, rows[:1])
    assert eagle.propose([DraftDemand(SequenceId(1), tokens[:2], 3)]) == [tokens[2:5]]
    assert model.num_runs == 3
    # The decoder computed the chosen token and three guesses; the last was not taken.
    log.note(SequenceId(1), 1, np.concatenate((rows[1:4], [[7.0, 7.0]])).astype(np.float32))
    assert eagle.propose([DraftDemand(SequenceId(1), tokens[:5], 2)]) == [tokens[5:7]]
    assert model.num_runs == 5


def test_a_sequence_that_ended_gives_its_room_back() -> None:
    limits = limits_of(num_blocks=4, max_model_len=64, lanes=1)
    log = HiddenLog(most_rows=64)
    eagle = Eagle(RollingHead(limits.num_blocks), limits, log)
    for number in range(5):
        tokens = [7] * 41
        rows = np.array([(7.0 * (i + 1), i) for i in range(40)], np.float32)
        log.note(SequenceId(number), 0, rows)
        assert len(eagle.propose([DraftDemand(SequenceId(number), tokens, 8)])[0]) == 8
        eagle.forget(SequenceId(number))
    eagle.forget(SequenceId(99))


def test_heads_say_nothing_where_no_state_is_known() -> None:
    log = HiddenLog(most_rows=16)
    demand = DraftDemand(SequenceId(1), [1, 2, 3], 4)
    assert Medusa(RollingHeads(), log).propose([demand]) == [[]]
    assert Eagle(RollingHead(64), limits_of(), log).propose([demand]) == [[]]


def test_a_model_that_gives_no_states_has_none_noted() -> None:
    log = HiddenLog(most_rows=16)
    engine = Engine(
        FakeModel(64),
        limits_of(),
        vocab_size=FakeTokenizer.vocab_size,
        speculator=Speculator(Medusa(RollingHeads(), log), most=4, always=True, log=log),
    )
    assert len(run(engine)["0"]) == 30
    assert engine.statistics().tokens_drafted == 0
