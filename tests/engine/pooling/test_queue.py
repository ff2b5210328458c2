"""Who is served next, and that every row reaches the request it belongs to."""

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from banyan.engine.options import QueuePolicy
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.pooling.queue import NoPooling, PooledRows, PoolingQueue
from banyan.foundation.errors import Overloaded, RequestError


class FirstToken:
    """Gives the first token of each prompt; remembers the first tokens of each batch."""

    max_tokens = 64
    vocab_size = 1000

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def run(self, prompts: Sequence[PoolingPrompt]) -> NDArray[np.float32]:
        firsts = [prompt.token_ids[0] for prompt in prompts]
        self.batches.append(firsts)
        return np.array(firsts, dtype=np.float32).reshape(-1, 1)


def prompts(*firsts: int, length: int = 1) -> list[PoolingPrompt]:
    return [PoolingPrompt((first,) * length) for first in firsts]


def rows(*numbers: int) -> tuple[bytes, ...]:
    return tuple(struct.pack("<f", number) for number in numbers)


def test_requests_share_a_batch() -> None:
    runner = FirstToken()
    queue = PoolingQueue(runner)
    queue.add_request("a", prompts(1, 2))
    queue.add_request("b", prompts(3))
    assert queue.step() == [PooledRows("a", rows(1, 2)), PooledRows("b", rows(3))]
    assert runner.batches == [[1, 3, 2]]
    assert not queue.has_work()
    assert queue.step() == []


def test_a_small_request_passes_a_large_one() -> None:
    queue = PoolingQueue(FirstToken(), tokens_per_step=4)
    queue.add_request("large", prompts(*range(20)))
    assert queue.step() == []
    queue.add_request("small", prompts(77))
    assert queue.step() == [PooledRows("small", rows(77))]
    done = [pooled for _ in range(4) for pooled in queue.step()]
    assert done == [PooledRows("large", rows(*range(20)))]


def test_those_that_had_no_turn_come_first_in_the_next_step() -> None:
    runner = FirstToken()
    queue = PoolingQueue(runner, tokens_per_step=2)
    for first in range(6):
        queue.add_request(str(first), prompts(first, first))
    for _ in range(3):
        queue.step()
    assert runner.batches == [[0, 1], [2, 3], [4, 5]]


def test_one_prompt_over_the_budget_is_served_alone() -> None:
    runner = FirstToken()
    queue = PoolingQueue(runner, tokens_per_step=8)
    queue.add_request("long", prompts(1, length=64))
    queue.add_request("short", prompts(2))
    assert [pooled.request_id for pooled in queue.step()] == ["long"]
    assert [pooled.request_id for pooled in queue.step()] == ["short"]


def test_a_request_without_prompts_has_no_rows() -> None:
    queue = PoolingQueue(FirstToken())
    queue.add_request("a", [])
    assert queue.step() == [PooledRows("a", ())]


def test_a_cancelled_request_is_forgotten() -> None:
    queue = PoolingQueue(FirstToken())
    queue.add_request("a", prompts(1))
    queue.cancel("a")
    queue.cancel("nobody")
    assert not queue.has_work()


def test_a_request_is_refused_whole() -> None:
    queue = PoolingQueue(FirstToken())
    with pytest.raises(RequestError, match="input 1 has 65 tokens"):
        queue.add_request("a", [*prompts(1), *prompts(2, length=65)])
    assert not queue.has_work()
    queue.add_request("a", prompts(1))
    with pytest.raises(RequestError, match="already being served"):
        queue.add_request("a", prompts(1))


@given(
    sizes=st.lists(st.lists(st.integers(1, 9), max_size=6), max_size=6),
    budget=st.integers(1, 20),
)
def test_every_request_gets_its_rows_in_order_whatever_the_budget(
    sizes: list[list[int]], budget: int
) -> None:
    runner = FirstToken()
    queue = PoolingQueue(runner, tokens_per_step=budget)
    wanted = {}
    for number, lengths in enumerate(sizes):
        asked = [PoolingPrompt((10 * number + at,) * size) for at, size in enumerate(lengths)]
        queue.add_request(str(number), asked)
        wanted[str(number)] = rows(*(prompt.token_ids[0] for prompt in asked))
    found: dict[str, tuple[bytes, ...]] = {}
    for _ in range(sum(map(len, sizes)) + 1):
        found |= {pooled.request_id: pooled.rows for pooled in queue.step()}
    assert found == wanted
    assert not queue.has_work()


def test_a_model_that_writes_refuses_with_its_sentence() -> None:
    queue = NoPooling("this model writes text")
    with pytest.raises(RequestError, match="this model writes text"):
        queue.add_request("a", prompts(1))
    queue.cancel("a")
    assert (queue.has_work(), queue.step()) == (False, [])


def test_one_request_that_breaks_the_model_takes_no_other_with_it() -> None:
    class Breaks(FirstToken):
        def run(self, prompts: Sequence[PoolingPrompt]) -> NDArray[np.float32]:
            if any(prompt.token_ids[0] == 13 for prompt in prompts):
                raise MemoryError("13")
            return super().run(prompts)

    queue = PoolingQueue(Breaks())
    queue.add_request("a", prompts(1, 2))
    queue.add_request("bad", prompts(5, 13))
    queue.add_request("b", prompts(3))
    assert queue.step() == [PooledRows("a", rows(1, 2)), PooledRows("b", rows(3))]
    assert [(one.request_id, str(one.error)) for one in queue.take_refusals()] == [("bad", "13")]
    assert queue.take_refusals() == []
    assert not queue.has_work()


@pytest.mark.parametrize(
    "policy", [QueuePolicy(max_waiting_requests=2), QueuePolicy(max_waiting_tokens=7)]
)
def test_what_finds_too_much_before_it_is_told_when_to_come_back(policy: QueuePolicy) -> None:
    queue = PoolingQueue(FirstToken(), policy=policy)
    queue.add_request("a", prompts(1, 2, 3))
    queue.add_request("b", prompts(4, 5, 6, 7))
    with pytest.raises(Overloaded, match="the queue is full: 2 requests of 7 tokens") as caught:
        queue.add_request("c", prompts(8))
    assert caught.value.retry_after_seconds >= 1
    queue.cancel("b")
    queue.add_request("c", prompts(8))
    while queue.has_work():
        queue.step()
    # Whatever is alone is served, or it never would be.
    queue.add_request("large", prompts(*range(9)))
