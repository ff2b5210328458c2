from dataclasses import replace

import pytest

from banyan.foundation.errors import InputError
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_check import (
    check_form,
    check_plan,
    require_form,
    require_own_devices,
    require_plan,
)
from tests.planner.shapes import dense_model, two_hosts

SHAPE = dense_model(4)


def plan_of(*replicas: tuple[Stage, ...]) -> Plan:
    return Plan(
        model="dense",
        model_fingerprint=SHAPE.fingerprint,
        num_layers=4,
        replicas=tuple(Replica(stages) for stages in replicas),
    )


def faults(*replicas: tuple[Stage, ...]) -> tuple[str, ...]:
    return check_plan(plan_of(*replicas), SHAPE, two_hosts())


def test_a_plan_that_can_run_has_no_fault() -> None:
    assert faults((Stage(0, 3, ("a", "b")), Stage(3, 4, ("c",)))) == ()
    assert faults((Stage(0, 4, ("a",)),), (Stage(0, 4, ("b",), attention=("c",)),)) == ()


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((Stage(0, 2, ("a",)), Stage(3, 4, ("b",))), "layer 2 is missing"),
        ((Stage(0, 3, ("a",)), Stage(2, 4, ("b",))), "layer 2 is in the stage before"),
        ((Stage(0, 3, ("a",)),), "layer 3 of 4 is missing"),
        ((Stage(0, 9, ("a",)),), "end at layer 9, the model at 4"),
        ((Stage(0, 2, ("a",)), Stage(2, 2, ("b",)), Stage(2, 4, ("c",))), "holds none"),
        ((Stage(0, 4, ("gone",)),), "'gone', which is not there; there are a, b, c"),
        ((Stage(0, 4, ()),), "names no device"),
        ((Stage(0, 4, ("a", "a")),), "stage 0 names device a twice"),
        ((Stage(0, 4, ("a",), experts=("b",)),), "puts experts on b, and its layers have none"),
        ((Stage(0, 4, ("a", "c")),), "here and there; one vendor"),
        ((Stage(0, 2, ("a",)), Stage(2, 4, ("a",))), "device a has 2 stages"),
        ((), "layer 0 of 4 is missing"),
    ],
)
def test_each_fault_is_named(stages: tuple[Stage, ...], words: str) -> None:
    found = faults(stages)
    assert len(found) == 1
    assert words in found[0]


def test_replicas_that_share_a_device_are_refused() -> None:
    assert faults((Stage(0, 4, ("a",)),), (Stage(0, 4, ("a",)),)) == (
        "2 replicas use device a; replicas share nothing",
    )


def test_devices_that_do_not_reach_each_other_are_named() -> None:
    apart = replace(two_hosts(), between_hosts=None)
    plan = plan_of((Stage(0, 2, ("a",)), Stage(2, 4, ("c",))))
    (fault,) = check_plan(plan, SHAPE, apart)
    assert "a and c do not reach each other" in fault


def test_a_plan_for_another_model_is_refused() -> None:
    plan = plan_of((Stage(0, 4, ("a",)),))
    (fault,) = check_plan(plan, replace(SHAPE, weight_dtype="int4"), two_hosts())
    assert "shapes or dtypes differ" in fault
    found = check_plan(plan, dense_model(5), two_hosts())
    assert "made for 4 layers and dense has 5" in found[0]


def test_a_plan_without_replicas_is_refused_in_one_sentence() -> None:
    with pytest.raises(InputError, match="no replica"):
        require_plan(plan_of(), SHAPE, two_hosts())
    two = plan_of((Stage(0, 3, ("gone",)),))
    with pytest.raises(InputError, match=r"layer 3 of 4 is missing \(and 1 more fault\)"):
        require_plan(two, SHAPE, two_hosts())


def test_what_no_device_can_mend_shows_without_an_inventory() -> None:
    by_hand = replace(plan_of((Stage(0, 4, ("anything",)),)), model_fingerprint="")
    assert check_form(by_hand, SHAPE) == ()
    prompts = Replica((Stage(0, 4, ("a",)),), prefill=(Stage(0, 3, ("b", "")),), max_sequences=-1)
    assert check_form(replace(by_hand, replicas=(prompts,)), SHAPE) == (
        "replica 0, prefill: layer 3 of 4 is missing",
        "replica 0, prefill 0 names a device without a name",
        "replica 0 has max_sequences -1; 0 or more is needed",
    )
    with pytest.raises(InputError, match="made for 5 layers and dense has 4; plan again"):
        require_form(replace(by_hand, num_layers=5), SHAPE)


def test_devices_may_have_several_stages_but_not_several_replicas() -> None:
    twice = (Stage(0, 2, ("a",)), Stage(2, 4, ("a",)))
    assert check_form(plan_of(twice), SHAPE) == ()
    require_own_devices(plan_of(twice))
    with pytest.raises(InputError, match="2 replicas use device a; replicas share nothing"):
        require_own_devices(plan_of(twice, (Stage(0, 4, ("a",)),)))
