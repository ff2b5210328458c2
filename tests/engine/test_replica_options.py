"""What replicas are built with, and how work is shared out."""

from hypothesis import given
from hypothesis import strategies as st

from banyan.engine.options import EngineOptions
from banyan.engine.replica_options import options_of_replicas, share_out, speeds_of_replicas
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import parse_plan


def plan_of(*most: int) -> Plan:
    replicas = tuple(
        Replica((Stage(0, 2, (f"cpu#{number}",)),), max_sequences=each)
        for number, each in enumerate(most)
    )
    return Plan(model="m", model_fingerprint="", num_layers=2, replicas=replicas)


def test_replicas_share_memory_and_draw_chances_of_their_own() -> None:
    plan = plan_of(8, 2)
    first, second = options_of_replicas(EngineOptions(seed=7), plan, 1000)
    assert (first.seed, second.seed) == (7, 8)
    assert (first.memory, second.memory) == ("500", "500")
    assert (first.max_num_seqs, second.max_num_seqs) == (8, 2)
    assert parse_plan(second.plan or "").replicas == (plan.replicas[1],)
    assert options_of_replicas(EngineOptions(memory="1GiB"), plan, 0)[0].memory == "1GiB"


def test_speeds_are_those_of_the_plan_if_it_says_so_of_all() -> None:
    assert speeds_of_replicas(plan_of(8, 2)) == [8.0, 2.0]
    assert speeds_of_replicas(plan_of(8, 0)) == [1.0, 1.0]


def test_large_pieces_are_given_away_first_and_slow_replicas_get_less() -> None:
    assert share_out([1, 1, 6, 1, 3], [2.0, 1.0]) == [0, 0, 0, 1, 1]
    assert share_out([], [1.0]) == []


@given(
    st.lists(st.integers(0, 1000), max_size=30),
    st.lists(st.floats(0.5, 8.0), min_size=1, max_size=5),
)
def test_nobody_is_later_than_an_even_share_and_a_piece_for_each(
    costs: list[int], speeds: list[float]
) -> None:
    owners = share_out(costs, speeds)
    latest = (sum(costs) + len(speeds) * max(costs, default=0)) / sum(speeds)
    for replica, speed in enumerate(speeds):
        own = sum(c for c, owner in zip(costs, owners, strict=True) if owner == replica)
        assert own / speed <= latest + 1e-6
