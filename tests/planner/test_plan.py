"""How many steps the stages of a plan can have under way."""

from banyan.planner.plan import Stage, pipeline_depth

FIRST, SECOND = Stage(0, 2, ("a",)), Stage(2, 4, ("b",))


def test_each_stage_with_devices_of_its_own_has_a_step() -> None:
    assert pipeline_depth([FIRST]) == 1
    assert pipeline_depth([FIRST, SECOND]) == 2
    assert pipeline_depth([FIRST, SECOND, Stage(4, 6, ("c", "d"))]) == 3


def test_stages_that_share_a_device_have_one_together() -> None:
    assert pipeline_depth([FIRST, SECOND, Stage(4, 6, ("a",))]) == 2
    assert pipeline_depth([Stage(0, 2, ("a", "b")), SECOND]) == 1


def test_what_is_elsewhere_computes_beside_the_rest() -> None:
    assert pipeline_depth([Stage(0, 4, ("a",), attention=("b",))]) == 2
    assert pipeline_depth([Stage(0, 4, ("a",), experts=("b",))]) == 2
    assert pipeline_depth([Stage(0, 4, ("a", "b"), attention=("a",))]) == 1
