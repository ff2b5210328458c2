import math
from itertools import pairwise

import pytest

from banyan.cli.load.workload import Lengths, Workload
from banyan.foundation.errors import InputError


def test_the_same_seed_asks_the_same_and_another_one_does_not() -> None:
    first = Workload(num_requests=20, rate=2.0, seed=1).asks()
    assert Workload(num_requests=20, rate=2.0, seed=1).asks() == first
    assert Workload(num_requests=20, rate=2.0, seed=2).asks() != first


def test_requests_of_a_poisson_process_come_at_the_rate_that_was_asked() -> None:
    asks = Workload(num_requests=4000, rate=5.0, mix="fixed", fixed=Lengths(4, 1)).asks()
    gaps = [after.at - before.at for before, after in pairwise(asks)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(0.2, rel=0.05)
    # The spread of an exponential distribution is its mean.
    assert math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) == pytest.approx(
        0.2, rel=0.1
    )


def test_an_infinite_rate_sends_all_at_once() -> None:
    assert {ask.at for ask in Workload(num_requests=5).asks()} == {0.0}


def test_mixes_have_the_lengths_they_promise() -> None:
    asks = Workload(num_requests=500, mix="sharegpt").asks()
    prompts = sorted(ask.lengths.prompt for ask in asks)
    assert prompts[0] >= 4
    assert prompts[-1] <= 1024
    assert prompts[250] < sum(prompts) / 500  # a long tail
    long = Workload(num_requests=50, mix="long-prompt").asks()
    assert all(1500 <= ask.lengths.prompt <= 4000 for ask in long)
    assert all(abs(len(ask.prompt.split()) - ask.lengths.prompt) <= 3 for ask in asks)


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(InputError, match="mix='chess' is not known; use one of sharegpt"):
        Workload(mix="chess")
    with pytest.raises(InputError, match="rate=0 cannot be used"):
        Workload(rate=0)
    with pytest.raises(InputError, match="thinking_seconds=-1 cannot be used"):
        Workload(thinking_seconds=-1)


def test_each_turn_of_a_conversation_begins_with_all_that_was_said() -> None:
    asks = Workload(num_requests=60, mix="conversation", rate=2.0, seed=3).asks()
    assert len(asks) == 60
    turns = [ask for ask in asks if ask.follows is not None]
    assert len(turns) > 20
    for ask in turns:
        assert ask.follows is not None
        before = asks[ask.follows]
        assert ask.history[:-1] == (*before.history, before.prompt)
        assert len(ask.history[-1].split()) == pytest.approx(before.lengths.answer, abs=3)
    assert all(ask.history == () for ask in asks if ask.follows is None)
    # Nobody's conversation begins like another's.
    assert len({(*ask.history, ask.prompt)[0] for ask in asks}) == 60 - len(turns)


def test_turns_come_at_the_rate_that_was_asked() -> None:
    asks = Workload(num_requests=3000, mix="conversation", rate=4.0).asks()
    begins = [ask.at for ask in asks if ask.follows is None]
    assert begins == sorted(begins)
    assert len(asks) / begins[-1] == pytest.approx(4.0, rel=0.1)
    pauses = [ask.at for ask in asks if ask.follows is not None]
    assert sum(pauses) / len(pauses) == pytest.approx(3.0, rel=0.1)
    at_once = Workload(num_requests=20, mix="conversation").asks()
    assert {ask.at for ask in at_once} == {0.0}
