from banyan.engine.events import TokenEvent
from banyan.engine.process.messages import AddRequest
from banyan.engine.process.resumption import Told
from banyan.engine.request_context import ORDINARY
from banyan.engine.sampling import SamplingOptions


def told_with(*token_ids: int) -> Told:
    told = Told(AddRequest("a", (1, 2), SamplingOptions(max_tokens=9), ORDINARY))
    for token_id in token_ids:
        told.note(event(token_id))
    return told


def event(token_id: int) -> TokenEvent:
    return TokenEvent("a", 0, (token_id,), "x", None, None, 2, 1)


def test_a_request_is_resumed_behind_what_was_told() -> None:
    assert told_with(5, 6).resumed().told == ((5, 6),)


def test_a_request_that_makes_headway_outlives_any_number_of_processes() -> None:
    told = told_with()
    for number in range(5):
        assert told.note_death("")
        told.resumed()
        told.note(event(number))
    assert told.resumed().told == (tuple(range(5)),)


def test_a_request_that_ends_two_processes_in_a_row_is_given_up() -> None:
    told = told_with(5)
    assert told.note_death("")
    assert not told.note_death("")


def test_a_device_may_be_what_ends_two_and_each_of_several_devices() -> None:
    told = told_with(5)
    assert all(told.note_death(place) for place in ("a", "b", "", "a", "b"))
    assert not told.note_death("a")
