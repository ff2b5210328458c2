from dataclasses import replace

import pytest

from banyan.planner.training.job import TrainingJob
from banyan.planner.training.order import pipeline_seconds
from banyan.planner.training.report import best_found, plan_training
from banyan.planner.training.search import Candidate, step_seconds
from tests.planner.training.instances import device_type, random_space, space_of
from tests.planner.training.oracle import shortest_step

QUICK = 25
LIMIT = 1.05


@pytest.mark.parametrize("seed", range(QUICK))
def test_a_plan_is_within_a_twentieth_of_the_best_of_all(seed: int) -> None:
    _compare(seed, num_devices=2 + seed % 2)


@pytest.mark.wide
@pytest.mark.parametrize("seed", range(QUICK, 200))
def test_two_hundred_plans_are_within_a_twentieth_of_the_best_of_all(seed: int) -> None:
    _compare(seed, num_devices=2 + seed % 3)


def _compare(seed: int, num_devices: int) -> None:
    space = random_space(seed, num_devices)
    best, found = shortest_step(space), best_found(space)
    if best is None:
        assert found is None
        return
    assert found is not None
    assert best * (1 - 1e-9) <= found[1] <= best * LIMIT


@pytest.mark.parametrize("slow", [0.5, 0.25])
def test_uneven_batches_of_two_gain_what_arithmetic_says(slow: float) -> None:
    # Speeds 1 and r: evenly the slow one takes B/2r, unevenly both take B/(1+r): (1+r)/2r.
    job = TrainingJob(sequences_per_step=120, sequence_tokens=8)
    space = space_of([device_type("one", 1e12), device_type("slow", slow * 1e12)], 1, job)
    found = best_found(space)
    assert found is not None
    one, other = space.inventory.devices
    even = Candidate(((one,), (other,)), ((1,), (1,)), (60, 60), 1, "1f1b")
    even_seconds = step_seconds(space, even)
    assert even_seconds is not None
    assert even_seconds / found[1] == pytest.approx((1 + slow) / (2 * slow), rel=1e-3)


@pytest.mark.parametrize("slow", [0.5, 0.25])
def test_uneven_layers_of_two_gain_what_arithmetic_says(slow: float) -> None:
    # Memory for the whole model on neither, so that a pipeline is the only way.
    job = TrainingJob(sequences_per_step=4096, sequence_tokens=8)
    states = 30 * 1_000_000 * 16
    kinds = [
        device_type("one", 1e12, int(0.85 * states)),
        device_type("slow", slow * 1e12, int(0.85 * states)),
    ]
    space = space_of(kinds, 30, job)
    found = best_found(space)
    assert found is not None
    even_times = space.times(space.inventory.devices, (15, 30), 1)
    assert even_times is not None
    even = pipeline_seconds(even_times, 4096, "1f1b")
    assert even / found[1] == pytest.approx((1 + slow) / (2 * slow), rel=5e-3)


def test_nothing_fits_where_no_device_holds_a_layer() -> None:
    job = TrainingJob(sequences_per_step=4, sequence_tokens=8)
    assert best_found(space_of([device_type("tiny", 1e12, 1000)], 2, job)) is None


def test_devices_that_do_not_reach_each_other_form_no_plan_together() -> None:
    job = TrainingJob(sequences_per_step=8, sequence_tokens=8)
    space = space_of([device_type("one", 1e12), device_type("two", 1e12)], 4, job)
    space.inventory = replace(space.inventory, between_hosts=None)
    found = best_found(space)
    assert found is not None
    assert [len(row) for row in found[0].layout] == [1]


def test_a_report_says_why_other_plans_lost() -> None:
    job = TrainingJob(sequences_per_step=12, sequence_tokens=8)
    space = space_of([device_type("one", 1e12), device_type("slow", 0.5e12)], 1, job)
    report = plan_training(space.shape, space.inventory, job, space.costs)
    assert report.plan is not None
    assert [pipeline.num_micro_batches for pipeline in report.plan.pipelines] == [8, 4]
    assert report.plan.tokens_per_second == pytest.approx(12 * 8 / report.plan.step_seconds)
    assert set(report.plan.memory_bytes) == {"0", "1"}
    for pipeline in report.plan.pipelines:
        assert list(pipeline.busy.values()) == [pytest.approx(1.0)]
    even, by_speed, alone = report.alternatives
    assert even.reason.endswith("1.50 times the plan's")
    assert by_speed.reason == "the same step; nothing is lost"
    assert (alone.name, alone.reason.endswith("1.50 times the plan's")) == ("one alone", True)


def test_a_report_says_what_is_missing() -> None:
    job = TrainingJob(sequences_per_step=4, sequence_tokens=8)
    small = space_of([device_type("tiny", 1e12, 10**6)], 2, job)
    report = plan_training(small.shape, small.inventory, job, small.costs)
    assert report.plan is None
    assert "take 32.00 MB and all devices have 1.00 MB; add devices" in report.summary
    narrow = space_of([device_type("narrow", 1e12, int(15e6))] * 3, 2, job)
    report = plan_training(narrow.shape, narrow.inventory, job, narrow.costs)
    assert "no cut of whole layers" in report.summary


def test_memory_that_an_even_split_lacks_is_named() -> None:
    job = TrainingJob(sequences_per_step=64, sequence_tokens=8)
    kinds = [device_type("large", 1e12, int(80e6)), device_type("small", 1e12, int(40e6))]
    space = space_of(kinds, 6, job)
    report = plan_training(space.shape, space.inventory, job, space.costs)
    assert report.plan is not None
    even = report.alternatives[0]
    assert (even.step_seconds, even.reason[-9:]) == (None, "hort on 1")
