"""How many steps are under way: found by trying, and kept until something better shows."""

from collections.abc import Callable
from functools import cache
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.engine.scheduling.pipeline_depth import FixedDepth, LearnedDepth
from banyan.engine.scheduling.scheduler import SequenceId, Slice, Step, even_share

RoundSeconds = Callable[[int, int], float]
"""From the depth and the sequences to the seconds of a round."""


@cache
def decoding(num_sequences: int) -> Step:
    return Step((), (), tuple(Slice(SequenceId(n), 1, 0, True) for n in range(num_sequences)))


PROMPT = Step((), (), (Slice(SequenceId(0), 64, 4, False),))


class Machine:
    """Runs rounds as a depth says."""

    def __init__(self, depth: LearnedDepth, seconds: RoundSeconds) -> None:
        self.depth, self.seconds = depth, seconds
        self.now = 0.0
        self.rounds: list[int] = []

    def run(self, num_rounds: int, num_running: int, *, prompt_every: int = 0) -> None:
        for number in range(num_rounds):
            current = self.depth.current
            self.rounds.append(current)
            left, seconds = num_running, self.seconds(current, num_running)
            for step in range(current):
                share = min(left, even_share(num_running, current))
                left -= share
                self.now += seconds / current
                is_prompt = bool(prompt_every) and step == 0 and number % prompt_every == 0
                self.depth.note(
                    PROMPT if is_prompt else decoding(share),
                    num_running=num_running,
                    num_under_way=current,
                    now=self.now,
                )

    def usual(self, last: int = 100) -> int:
        """The depth of most of the last rounds."""
        recent = self.rounds[-last:]
        return max(set(recent), key=recent.count)


def learned(seconds: RoundSeconds) -> Machine:
    return Machine(LearnedDepth(usual=2, most=4), seconds)


def test_more_steps_where_places_wait_for_each_other() -> None:
    machine = learned(lambda depth, _: {1: 2.0, 2: 1.2, 4: 1.0}[depth])
    machine.run(200, 16)
    assert machine.usual() == 4


def test_one_step_where_steps_cost_more_than_they_save() -> None:
    machine = learned(lambda depth, _: 1.0 + 0.1 * depth)
    machine.run(400, 16)
    assert machine.usual() == 1


def test_what_is_hardly_better_changes_nothing() -> None:
    machine = learned(lambda depth, _: 1.0 - 0.01 * depth)
    machine.run(2000, 16)
    assert machine.usual(2000) == 2


def test_trials_that_change_nothing_become_rare() -> None:
    machine = learned(lambda depth, _: 1.0 if depth == 2 else 1.5)
    machine.run(20_000, 16)
    tried = [sum(depth != 2 for depth in machine.rounds[n : n + 5000]) for n in (0, 15_000)]
    assert tried[0] <= 200
    assert tried[1] <= 25


def test_another_number_of_sequences_has_a_depth_of_its_own() -> None:
    machine = learned(lambda depth, running: 1.0 + (0.3 if running < 8 else -0.2) * depth)
    machine.run(400, 4)
    assert machine.usual() == 1
    machine.run(400, 64)
    assert machine.usual() == 4
    before = len(machine.rounds)
    machine.run(8, 4)
    assert set(machine.rounds[before + 1 :]) == {1}


def test_a_machine_that_changes_is_noticed() -> None:
    machine = learned(lambda depth, _: 1.0 / depth)
    machine.run(300, 16)
    assert machine.usual() == 4
    machine.seconds = lambda depth, _: float(depth)
    machine.run(2000, 16)
    assert machine.usual() == 1


def test_rounds_with_prompts_say_nothing() -> None:
    """They are longer at the depth that is better."""
    machine = learned(lambda depth, _: {1: 1.5, 2: 1.0, 4: 0.8}[depth])
    machine.run(400, 16, prompt_every=2)
    assert machine.usual() == 4
    always = learned(lambda depth, _: 1.0 / depth)
    always.run(400, 16, prompt_every=1)
    assert always.usual(400) == 2


def test_one_sequence_is_not_divided() -> None:
    machine = learned(lambda depth, _: 1.0 / depth)
    machine.run(400, 1)
    assert set(machine.rounds) == {2}


@settings(max_examples=25)
@given(
    costs=st.fixed_dictionaries({depth: st.floats(0.5, 2.0) for depth in (1, 3, 6)}),
    seed=st.integers(0, 1000),
)
def test_in_the_end_no_neighbour_is_much_better(costs: dict[int, float], seed: int) -> None:
    """Though a round in ten takes three times as long as the others."""
    chance = Random(seed)
    machine = Machine(
        LearnedDepth(usual=3, most=6),
        lambda depth, _: costs[depth] * chance.choice((1.0,) * 8 + (1.01, 3.0)),
    )
    machine.run(600, 6)
    depth = machine.usual()
    assert set(machine.rounds) <= {1, 3, 6}
    neighbours = {1: (3,), 3: (1, 6), 6: (3,)}[depth]
    assert all(costs[depth] * 0.94 <= costs[other] for other in neighbours)


def test_a_fixed_depth_stays() -> None:
    depth = FixedDepth(3)
    depth.note(decoding(3), num_running=9, num_under_way=3, now=1.0)
    assert (depth.current, depth.most) == (3, 3)
