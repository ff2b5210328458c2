"""Who computes in the next step while others are under way; the rules themselves are tested beside
the real engine, in `test_pipelined_engine`."""

from array import array

from banyan.planner.simulation.requests import EngineLimits, Requests
from banyan.planner.simulation.sequences import Sequences


def _sequences(limits: EngineLimits, *prompts: int) -> Sequences:
    requests = Requests.of(array("i", prompts), array("i", [50] * len(prompts)))
    sequences = Sequences(limits, requests)
    for request in range(len(prompts)):
        sequences.wait(request)
    return sequences


def test_steps_share_the_token_budget() -> None:
    sequences = _sequences(EngineLimits(20, 32, 8, 2), 10, 10)
    assert sequences.choose(0) == ([], [(0, 10), (1, 6)])
    # The second cannot go on before it is back.
    assert sequences.choose(0) is None


def test_no_step_takes_more_than_its_share_of_the_decoding() -> None:
    sequences = _sequences(EngineLimits(20, 32, 8, 2), 2, 2, 2)
    decoding, chunks = sequences.choose(0) or ([], [])
    sequences.settle(decoding, chunks, 1.0)
    assert sequences.choose(0) == ([0, 1], [])
    assert sequences.choose(2) == ([2], [])
    assert sequences.choose(3) is None


def test_rounds_last_until_the_first_ends_or_blocks_are_short() -> None:
    sequences = _sequences(EngineLimits(20, 32, 8, 2), 2)
    decoding, chunks = sequences.choose(0) or ([], [])
    sequences.settle(decoding, chunks, 1.0)
    assert sequences.most_rounds([[0]]) == 0
    decoding, _ = sequences.choose(0) or ([], [])
    # Of 50 tokens one is written and one is under way.
    assert sequences.most_rounds([decoding]) == 48
    sequences.free_blocks = 1
    # Three tokens are known, and two blocks hold 32.
    assert sequences.most_rounds([decoding]) == 29
    sequences.write(decoding, 29)
    assert (sequences.free_blocks, sequences.num_known(decoding)) == (0, 32)


def test_nobody_takes_rounds_while_one_who_waits_would_find_a_place() -> None:
    sequences = _sequences(EngineLimits(20, 32, 8, 2), 2)
    decoding, chunks = sequences.choose(0) or ([], [])
    sequences.settle(decoding, chunks, 1.0)
    decoding, _ = sequences.choose(0) or ([], [])
    sequences.wait(0)
    assert sequences.most_rounds([decoding]) == 0
