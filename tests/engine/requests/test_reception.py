"""Who may join, who must go for it, and who waited too long; times are plain numbers."""

import pytest

from banyan.engine.options import QueuePolicy
from banyan.engine.requests.reception import Reception, Refusal
from banyan.engine.requests.request import Sequence as Answer
from banyan.foundation.errors import DeadlineMissed, Overloaded
from tests.engine.answers import Arrivals


class Desk:
    """A reception and what an engine keeps beside it."""

    def __init__(self, **policy: object) -> None:
        self.reception = Reception(QueuePolicy(**policy))  # type: ignore[arg-type]
        self.arrivals = Arrivals()
        self.unfinished: dict[str, list[Answer]] = {}
        self.seconds_per_token = 0.0

    def come(self, *, now: float = 0.0, **wanted: object) -> list[Refusal]:
        answers = self.arrivals.answers(now=now, **wanted)
        request = answers[0].request
        seconds = self.seconds_per_token * len(request.prompt_token_ids)
        refusals = self.reception.make_room(request, self.unfinished, seconds)
        for refusal in refusals:
            del self.unfinished[refusal.request_id]
        for answer in answers:
            self.reception.join(answer, now=now, begin_seconds=seconds)
        self.unfinished[request.request_id] = answers
        return refusals

    def start(self, request_id: str, *, now: float = 0.0) -> None:
        """Let all answers of a request run."""
        answers = self.unfinished[request_id]
        for answer in answers:
            self.reception.line.remove(answer.sequence_id)
            answer.start(0)
        self.reception.note_step(answers, now=now)


def test_without_bounds_everyone_may_wait() -> None:
    desk = Desk()
    for _ in range(100):
        assert desk.come() == []
    assert len(desk.reception.line) == 100


def test_a_full_queue_refuses_and_says_how_full_it_is_and_when_to_come_back() -> None:
    desk = Desk(max_waiting_requests=2)
    desk.come()
    desk.come()
    with pytest.raises(
        Overloaded, match="the queue is full: 2 of at most 2 answers wait"
    ) as caught:
        desk.come()
    assert caught.value.retry_after_seconds == 1
    assert not caught.value.is_callers_share
    assert desk.reception.num_refused == 1


def test_the_time_to_come_back_is_how_long_the_line_takes_at_its_speed() -> None:
    desk = Desk(max_waiting_requests=2)
    desk.come(num_tokens=100)
    desk.come(num_tokens=100)
    desk.start("1", now=4.0)
    desk.come(num_tokens=100, now=4.0)
    with pytest.raises(Overloaded) as caught:
        desk.come(num_tokens=100, now=4.0)
    assert caught.value.retry_after_seconds == 8


def test_prompt_tokens_are_bounded_too_but_an_empty_queue_takes_any_request() -> None:
    desk = Desk(max_waiting_tokens=50)
    desk.come(num_tokens=500)
    with pytest.raises(Overloaded, match="500 of at most 50 prompt tokens wait"):
        desk.come(num_tokens=1)


def test_answers_of_one_request_each_take_a_place() -> None:
    desk = Desk(max_waiting_requests=4)
    desk.come(n=3)
    with pytest.raises(Overloaded):
        desk.come(n=2)
    desk.come(n=1)


def test_a_flood_gives_way_to_a_caller_with_less_and_is_told_that_it_asks_for_too_much() -> None:
    desk = Desk(max_waiting_requests=3)
    for _ in range(3):
        desk.come(caller="flood")
    (refusal,) = desk.come(caller="other")
    assert refusal.request_id == "3"
    assert isinstance(refusal.error, Overloaded)
    assert refusal.error.is_callers_share
    with pytest.raises(Overloaded) as caught:
        desk.come(caller="flood")
    assert caught.value.is_callers_share
    with pytest.raises(Overloaded) as caught:
        desk.come(caller="other")
    assert not caught.value.is_callers_share


def test_an_urgent_request_takes_the_place_of_one_that_is_not() -> None:
    desk = Desk(max_waiting_requests=2)
    desk.come(priority=1)
    desk.come()
    assert [refusal.request_id for refusal in desk.come(priority=-1)] == ["1"]
    with pytest.raises(Overloaded):
        desk.come(priority=3)


def test_a_request_with_an_answer_under_way_is_not_taken_back() -> None:
    desk = Desk(max_waiting_requests=3)
    desk.come(n=3, caller="flood")
    first = desk.unfinished["1"][0]
    desk.reception.line.remove(first.sequence_id)
    desk.come(caller="other")
    with pytest.raises(Overloaded):
        desk.come(caller="third")


def test_who_would_begin_too_late_is_refused_at_once() -> None:
    desk = Desk(first_token_goal_seconds=2.0)
    for _ in range(4):
        desk.come(num_tokens=100)
    desk.start("1", now=1.0)  # 100 tokens in a second
    with pytest.raises(Overloaded, match=r"would begin after about 3\.0 s, later than the 2 s"):
        desk.come(num_tokens=100, now=1.0)
    desk.start("2", now=2.0)
    desk.start("3", now=3.0)
    desk.come(num_tokens=100, now=3.0)


def test_a_light_caller_is_let_in_where_a_heavy_one_is_refused() -> None:
    desk = Desk(first_token_goal_seconds=2.0)
    for _ in range(5):
        desk.come(num_tokens=100, caller="heavy")
    desk.start("1", now=1.0)
    with pytest.raises(Overloaded):
        desk.come(num_tokens=100, caller="heavy", now=1.0)
    desk.come(num_tokens=20, caller="light", now=1.0)


def test_one_that_waits_until_the_goal_cannot_be_met_is_given_up_but_not_one_that_runs() -> None:
    desk = Desk(first_token_goal_seconds=2.0)
    desk.seconds_per_token = 0.01
    desk.come(num_tokens=50)
    desk.come(num_tokens=50)
    desk.start("1", now=0.1)
    # Of the goal 0.08 s are for the way to its reader, and 0.5 s for its prompt.
    assert desk.reception.overdue(1.41) == []
    (refusal,) = desk.reception.overdue(1.43)
    assert refusal.request_id == "2"
    assert isinstance(refusal.error, Overloaded)
    assert desk.reception.overdue(99.0) == []


def test_a_prompt_that_alone_takes_longer_than_the_goal_may_wait_for_half_of_it() -> None:
    desk = Desk(first_token_goal_seconds=2.0)
    desk.seconds_per_token = 1.0
    desk.come(num_tokens=50)
    assert desk.reception.overdue(0.99) == []
    assert len(desk.reception.overdue(1.0)) == 1


def test_a_deadline_that_cannot_be_met_any_more_ends_a_request_with_the_reason() -> None:
    desk = Desk()
    desk.seconds_per_token = 0.01
    desk.come(num_tokens=50, deadline_seconds=3.0)
    assert desk.reception.overdue(2.49) == []
    (refusal,) = desk.reception.overdue(2.6)
    assert isinstance(refusal.error, DeadlineMissed)
    assert str(refusal.error) == (
        "the answer could not begin within deadline_seconds=3: 2.60 s have passed and its prompt "
        "of 50 tokens is not computed; allow more time"
    )
    assert desk.reception.num_late == 1


def test_a_deadline_also_ends_one_that_runs_but_not_one_that_has_begun() -> None:
    desk = Desk()
    desk.come(deadline_seconds=1.0)
    desk.come(deadline_seconds=1.0)
    desk.start("1")
    desk.start("2")
    desk.unfinished["1"][0].token_ids.append(5)
    assert [refusal.request_id for refusal in desk.reception.overdue(1.0)] == ["2"]


def test_limits_of_requests_that_ended_long_ago_do_not_pile_up() -> None:
    desk = Desk()
    for _ in range(1000):
        desk.come(deadline_seconds=1e6)
        (answer,) = desk.unfinished.popitem()[1]
        desk.reception.leave(answer)
        answer.finish()
    assert len(desk.reception._limits) < 200
    assert desk.reception.fair_share.num_active == 0
