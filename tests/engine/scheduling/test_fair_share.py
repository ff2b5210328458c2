"""Service counters: who was idle starts level, who is served moves back, names do not pile up."""

from hypothesis import given
from hypothesis import strategies as st

from banyan.engine.scheduling.fair_share import FairShare


def test_a_written_token_counts_twice_a_prompt_token() -> None:
    share = FairShare()
    share.arrive("a")
    share.charge("a", num_prompt=10, num_written=3)
    assert share.service("a") == 16.0


def test_a_newcomer_starts_level_with_the_least_served_of_those_who_are_here() -> None:
    share = FairShare()
    share.arrive("a")
    share.charge("a", num_prompt=100)
    share.arrive("b")
    assert share.service("b") == 100.0


def test_being_idle_saves_up_no_claim_and_wipes_out_no_debt() -> None:
    share = FairShare()
    for caller in ("a", "b"):
        share.arrive(caller)
    share.charge("a", num_prompt=50)
    share.leave("a")
    share.arrive("a")
    assert share.service("a") == 50.0
    share.leave("a")
    share.charge("b", num_prompt=80)
    share.arrive("a")
    assert share.service("a") == 80.0


def test_a_caller_is_active_until_the_last_of_its_answers_ends() -> None:
    share = FairShare()
    share.arrive("a")
    share.arrive("a")
    share.leave("a")
    assert share.is_active("a")
    share.leave("a")
    assert not share.is_active("a")
    assert share.num_active == 0


def test_names_of_callers_who_are_gone_do_not_pile_up() -> None:
    share = FairShare()
    share.arrive("stays")
    for number in range(10_000):
        share.arrive(str(number))
        share.charge(str(number), num_prompt=1 + number % 7)
        share.leave(str(number))
    assert len(share._service) < 5_000
    share.leave("stays")
    assert share._service == {}


def test_one_who_comes_and_goes_leaves_nothing_behind() -> None:
    share = FairShare()
    share.arrive("stays")
    for _ in range(1000):
        share.arrive("a")
        share.leave("a")
    assert len(share._least_served) < 100


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 30)), max_size=60))
def test_a_newcomer_is_level_with_the_least_served_whoever_came_and_went(
    moves: list[tuple[str, int]],
) -> None:
    share = FairShare()
    active: set[str] = set()
    for caller, amount in moves:
        if caller not in active:
            least = min(map(share.service, active), default=0.0)
            share.arrive(caller)
            active.add(caller)
            assert share.service(caller) >= least
        elif amount < 10:
            share.leave(caller)
            active.remove(caller)
        else:
            share.charge(caller, num_prompt=amount)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30)), min_size=30, max_size=60))
def test_serving_the_least_served_keeps_busy_callers_within_one_piece_of_work(
    works: list[tuple[str, int]],
) -> None:
    share = FairShare()
    for caller in "abc":
        share.arrive(caller)
    for _, amount in works:
        share.charge(min("abc", key=share.service), num_prompt=amount)
    services = [share.service(caller) for caller in "abc"]
    assert max(services) - min(services) <= 30
