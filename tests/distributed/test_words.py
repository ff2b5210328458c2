"""Words in shared memory: what is said is heard once and in order, and nonsense is refused."""

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.distributed.words import (
    MOST_CREDITS,
    WORD_BYTES,
    HeardWords,
    SpokenWords,
    can_speak,
)
from banyan.foundation.errors import DamagedMessage


def test_what_is_written_is_heard() -> None:
    memory = mmap.mmap(-1, WORD_BYTES)
    spoken, heard = SpokenWords(memory), HeardWords(memory)
    assert heard.written == 0
    spoken.say_written(3)
    assert heard.written == 3


@given(st.lists(st.lists(st.integers(0, 2**40), max_size=MOST_CREDITS), max_size=8))
def test_every_credit_is_taken_once_and_in_order(rounds: list[list[int]]) -> None:
    memory = mmap.mmap(-1, WORD_BYTES)
    spoken, heard = SpokenWords(memory), HeardWords(memory)
    for offsets in rounds:
        spoken.give_credit(offsets[:1])
        spoken.give_credit(offsets[1:])
        assert heard.take_credit() == offsets
        assert heard.take_credit() == []


@pytest.mark.parametrize("number", [MOST_CREDITS + 1, 2**64 - 1])
def test_more_credit_than_places_can_be_in_use_is_damage(number: int) -> None:
    memory = mmap.mmap(-1, WORD_BYTES)
    heard = HeardWords(memory)
    memoryview(memory).cast("Q")[1] = number
    with pytest.raises(DamagedMessage, match=f"gives {number} places back at once; at most 504"):
        heard.take_credit()


def test_only_processors_that_keep_the_order_of_stores_speak() -> None:
    assert can_speak("x86_64")
    assert can_speak("AMD64")
    assert not can_speak("aarch64")
    assert not can_speak("riscv64")
