"""The order of the line, and its sums against a naive model."""

from hypothesis import given
from hypothesis import strategies as st

from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.requests.waiting_line import WaitingLine
from banyan.engine.scheduling.fair_share import FairShare
from tests.engine.answers import Arrivals


class Line:
    """A line whose answers are known by short names."""

    def __init__(self) -> None:
        self.share = FairShare()
        self.line = WaitingLine(self.share)
        self.arrivals = Arrivals()
        self.names: dict[int, str] = {}

    def come(self, name: str, **wanted: object) -> Answer:
        (answer,) = self.arrivals.answers(now=0.0, **wanted)
        self.names[answer.sequence_id] = name
        self.share.arrive(answer.request.context.caller)
        self.line.append(answer)
        return answer

    def order(self) -> str:
        return "".join(self.names[answer.sequence_id] for answer in self.line)


def test_one_caller_is_served_in_order_of_arrival() -> None:
    line = Line()
    for name in "abc":
        line.come(name)
    assert line.order() == "abc"


def test_lower_priority_numbers_come_first() -> None:
    line = Line()
    line.come("a", priority=5)
    line.come("b")
    line.come("c", priority=-1)
    assert line.order() == "cba"
    assert line.line.most_urgent == -1


def test_callers_take_turns_by_the_tokens_they_ask_for() -> None:
    line = Line()
    for name in "abc":
        line.come(name, caller="flood")
    line.come("x", caller="other")
    line.come("y", caller="other")
    assert line.order() == "axbyc"


def test_who_was_served_less_comes_first() -> None:
    line = Line()
    line.come("a", caller="served")
    line.come("b", caller="served")
    line.come("x", caller="not yet")
    line.share.charge("served", num_prompt=15)
    assert line.order() == "xab"


def test_one_that_ran_already_comes_before_all_new_ones_of_its_priority() -> None:
    line = Line()
    line.come("u", priority=-1)
    first, second = line.come("1"), line.come("2")
    line.come("3")
    for answer in (second, first):
        line.line.remove(answer.sequence_id)
    line.line.stand_back(second)
    line.line.stand_back(first)
    assert line.order() == "u123"


def test_tokens_before_a_newcomer_count_other_callers_only_as_far_as_turns_go() -> None:
    line = Line()
    for _ in range(10):
        line.come("f", caller="flood", num_tokens=100)
    line.come("o", caller="other", num_tokens=50)
    before = line.line.tokens_before
    assert before(priority=0, caller="new", num_tokens=30) == 30 + 30
    assert before(priority=0, caller="other", num_tokens=30) == 50 + 80
    assert before(priority=0, caller="flood", num_tokens=30) == 1000 + 50
    assert before(priority=-1, caller="new", num_tokens=30) == 0
    assert before(priority=1, caller="new", num_tokens=30) == 1050


def test_the_first_to_be_turned_away_is_the_youngest_of_the_caller_with_most() -> None:
    line = Line()
    assert line.line.last_of_the_greediest() is None
    for name in "ab":
        line.come(name, caller="flood")
    line.come("x", caller="other")
    victim = line.line.last_of_the_greediest()
    assert victim is not None
    assert line.names[victim.sequence_id] == "b"
    lazy = line.come("z", caller="third", priority=1)
    assert line.line.last_of_the_greediest() is lazy


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["come", "leave", "run", "back"]),
            st.integers(-1, 1),
            st.sampled_from("abc"),
            st.integers(1, 9),
        ),
        max_size=40,
    )
)
def test_everyone_stands_in_line_once_and_the_sums_are_right(
    moves: list[tuple[str, int, str, int]],
) -> None:
    line = Line()
    here: list[Answer] = []
    ran: list[Answer] = []
    for move, priority, caller, number in moves:
        if move == "come":
            here.append(line.come("x", priority=priority, caller=caller, num_tokens=number))
        elif move == "back" and ran:
            here.append(ran.pop(number % len(ran)))
            line.line.stand_back(here[-1])
        elif move in {"leave", "run"} and here:
            gone = here.pop(number % len(here))
            assert line.line.remove(gone.sequence_id) is gone
            if move == "run":
                ran.append(gone)
    served = list(line.line)
    assert sorted(a.sequence_id for a in served) == sorted(a.sequence_id for a in here)
    assert [a.priority for a in served] == sorted(a.priority for a in here)
    assert line.line.num_tokens == sum(len(a.token_ids) for a in here)
    assert len(line.line) == len(here)
    for caller in "abc":
        own = [a for a in served if a.request.context.caller == caller]
        by_class = sorted(own, key=lambda a: a.priority)
        assert own == by_class
    for answer in here:
        line.line.remove(answer.sequence_id)
    assert len(line.line) == line.line.num_tokens == 0
    assert list(line.line) == []
