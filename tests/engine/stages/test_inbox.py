"""Which segment runs next."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.engine.stages.inbox import ARGUMENTS, Inbox, Key
from banyan.foundation.errors import StageFailed

HIDDEN: Key = ("a", "hidden")
SKIP: Key = ("a", "skip")


def taken(inbox: Inbox[Any]) -> list[tuple[int, int]]:
    """All that can run now, as step and segment."""
    found = []
    while (ready := inbox.take()) is not None:
        found.append((ready.step, ready.number))
    return found


def test_a_segment_waits_for_the_step_and_for_what_it_takes() -> None:
    inbox: Inbox[str] = Inbox({1: [HIDDEN], 3: []})
    inbox.put(1, {HIDDEN: "early"})
    assert inbox.take() is None
    inbox.put(1, {ARGUMENTS: "step 1"})
    first = inbox.take()
    assert first is not None
    assert first == (1, 1, {ARGUMENTS: "step 1", HIDDEN: "early"})
    assert inbox.is_waiting
    assert taken(inbox) == [(1, 3)]
    assert not inbox.is_waiting


def test_the_earliest_step_runs_first_and_in_it_the_earliest_segment() -> None:
    inbox: Inbox[str] = Inbox({0: [], 2: [HIDDEN], 4: []})
    inbox.put(2, {ARGUMENTS: ""})
    inbox.put(1, {ARGUMENTS: ""})
    assert taken(inbox) == [(1, 0), (1, 4), (2, 0), (2, 4)]
    inbox.put(2, {HIDDEN: ""})
    inbox.put(1, {HIDDEN: ""})
    assert taken(inbox) == [(1, 2), (2, 2)]


def test_a_value_is_kept_until_its_last_segment_took_it() -> None:
    inbox: Inbox[str] = Inbox({0: [SKIP], 1: [HIDDEN, SKIP]})
    inbox.put(7, {ARGUMENTS: "", SKIP: "far"})
    assert taken(inbox) == [(7, 0)]
    inbox.put(7, {HIDDEN: "near"})
    ready = inbox.take()
    assert ready is not None
    assert ready.values == {ARGUMENTS: "", HIDDEN: "near", SKIP: "far"}


def test_two_places_may_give_a_value_of_one_name() -> None:
    inbox: Inbox[str] = Inbox({0: [("a", "x")], 1: [("b", "x")]})
    inbox.put(1, {ARGUMENTS: "", ("b", "x"): "of b"})
    assert taken(inbox) == [(1, 1)]
    assert ("a", "x") in inbox
    assert ("c", "x") not in inbox


def test_what_nothing_takes_is_refused() -> None:
    with pytest.raises(StageFailed, match="a sent 'hidden', which nothing here takes; start all"):
        Inbox[str]({0: []}).put(1, {HIDDEN: ""})


@settings(max_examples=50)
@given(
    needs=st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=5),
    num_steps=st.integers(1, 4),
    chance=st.randoms(use_true_random=False),
)
def test_every_segment_runs_once_in_every_step_and_in_the_order_of_steps(
    needs: list[set[int]], num_steps: int, chance: object
) -> None:
    """Each value comes in the order of steps, as over a channel; values among each other mix."""
    keys = {value: ("a", f"value.{value}") for value in set().union(*needs)}
    inbox: Inbox[int] = Inbox(
        {number: [keys[value] for value in values] for number, values in enumerate(needs)}
    )
    lines = [[(step, key) for step in range(num_steps)] for key in (ARGUMENTS, *keys.values())]
    ran: list[tuple[int, int]] = []
    while lines:
        line = chance.choice(lines)  # type: ignore[attr-defined]
        step, key = line.pop(0)
        inbox.put(step, {key: step})
        lines = [line for line in lines if line]
        if chance.random() < 0.5:  # type: ignore[attr-defined]
            ran += taken(inbox)
    ran += taken(inbox)
    assert sorted(ran) == [(s, n) for s in range(num_steps) for n in range(len(needs))]
    for number in range(len(needs)):
        assert [step for step, of in ran if of == number] == list(range(num_steps))
    assert not inbox.is_waiting
