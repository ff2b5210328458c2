"""Seats of adapters: nobody loses a slot that is held, and the oldest unused one gives way."""

from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.engine.adapters.slots import AdapterSlots, Seat


def test_an_adapter_is_written_once_and_found_again() -> None:
    slots = AdapterSlots(2)
    assert slots.hold(7) == Seat(0, is_new=True)
    assert slots.hold(7) == Seat(0, is_new=False)
    slots.release(7)
    slots.release(7)
    assert slots.held == frozenset()
    assert slots.hold(7) == Seat(0, is_new=False)


def test_the_one_used_the_longest_ago_gives_way() -> None:
    slots = AdapterSlots(2)
    for number in (1, 2, 1):
        slots.hold(number)
        slots.release(number)
    assert slots.hold(3) == Seat(1, is_new=True)
    assert slots.hold(1) == Seat(0, is_new=False)


def test_a_dropped_adapter_keeps_its_slot_while_it_is_held() -> None:
    slots = AdapterSlots(1)
    slots.hold(1)
    slots.drop(1)
    assert slots.hold(1) == Seat(0, is_new=False)
    slots.release(1)
    slots.release(1)
    assert slots.hold(1) == Seat(0, is_new=True)


def test_a_dropped_adapter_that_nobody_holds_goes_before_others() -> None:
    slots = AdapterSlots(2)
    for number in (1, 2):
        slots.hold(number)
        slots.release(number)
    slots.drop(2)
    assert slots.hold(3) == Seat(1, is_new=True)
    assert slots.hold(1) == Seat(0, is_new=False)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), num_slots=st.integers(1, 4))
def test_whatever_happens_a_held_adapter_is_where_it_was_written(
    data: st.DataObject, num_slots: int
) -> None:
    slots, held = AdapterSlots(num_slots), list[int]()
    written: dict[int, int] = {}
    seat_of: dict[int, int] = {}
    for _ in range(data.draw(st.integers(1, 40))):
        kind = data.draw(st.sampled_from(["hold", "hold", "release", "drop"]))
        number = data.draw(st.integers(0, 6))
        if kind == "hold" and (number in held or len(set(held)) < num_slots):
            seat = slots.hold(number)
            assert 0 <= seat.slot < num_slots
            if seat.is_new:
                assert all(seat_of[other] != seat.slot for other in held)
                written[seat.slot] = number
            assert written[seat.slot] == number
            seat_of[number] = seat.slot
            held.append(number)
        elif kind == "release" and held:
            number = held.pop(data.draw(st.integers(0, len(held) - 1)))
            slots.release(number)
        elif kind == "drop":
            slots.drop(number)
        assert slots.held == set(held)
        assert all(written[seat_of[number]] == number for number in held)
