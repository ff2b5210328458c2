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
