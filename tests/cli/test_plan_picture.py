import re
import xml.etree.ElementTree as ET
from dataclasses import replace

from banyan.cli.plan_picture import draw_plan
from banyan.planner.costs import RooflineCost
from banyan.planner.inventory import Inventory, PlannedDevice
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.report import Alternative, PlanningChoices, PlanReport
from banyan.planner.serving.forecast import forecast
from banyan.planner.serving.placed import Task
from banyan.planner.workload import Workload
from tests.planner.shapes import FAST, dense_model, two_hosts


def drawn(inventory: Inventory, *replicas: Replica, name: str = "dense") -> str:
    """The page of a plan for four layers, with what is forecast of it."""
    shape = replace(dense_model(), name=name)
    workload = Workload(prompt_tokens=64, answer_tokens=32)
    task = Task(shape, inventory, workload, RooflineCost(), PlanningChoices())
    plan = Plan(model=name, model_fingerprint=shape.fingerprint, num_layers=4, replicas=replicas)
    found = forecast(plan, task)
    assert found.problems == ()
    plan = replace(plan, prediction=found.prediction)
    lost = (Alternative("all on <slow>", "3.1 GiB short on c"),)
    report = PlanReport(plan=plan, summary="a & b", alternatives=lost)
    page = draw_plan(report, task, found)
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        _check_inside(ET.fromstring(drawing))
    return page


def _check_inside(drawing: ET.Element) -> None:
    """Nothing is drawn outside the picture, and no bar is longer than what holds it."""
    width, height = float(drawing.get("width", 0)), float(drawing.get("height", 0))
    for found in drawing.iter("{http://www.w3.org/2000/svg}rect"):
        left, top, wide, high = (float(found.get(n, 0)) for n in ("x", "y", "width", "height"))
        assert left >= 0
        assert left + wide <= width
        assert top + high <= height
    for text in drawing.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 <= float(text.get("x", -1)) <= width
        assert 0 <= float(text.get("y", -1)) <= height


def test_stages_links_bars_and_idle_shares_are_drawn() -> None:
    page = drawn(two_hosts(), Replica((Stage(0, 3, ("a",)), Stage(3, 4, ("c",)))))
    assert "layers 0 to 2, fast" in page
    assert "layers 3 to 3, slow" in page
    # 256 numbers of two bytes go from stage to stage for each token.
    assert "0.512 KB a token" in page
    assert len(re.findall(r"idle \d+%", page)) == 2
    assert len(re.findall(r'class="memory"', page)) == 2
    assert "Not used by this plan: b." in page
    assert "all on &lt;slow&gt;" in page
    assert "a &amp; b" in page


def test_attention_on_other_devices_hangs_below_its_stage() -> None:
    page = drawn(two_hosts(), Replica((Stage(0, 4, ("a", "b"), attention=("c",)),)))
    assert "a + 1" in page
    assert "attention and cache: c" in page
    assert page.count('class="box helper"') == 1


def test_prompts_on_devices_of_their_own_are_a_row_of_their_own() -> None:
    page = drawn(two_hosts(), Replica((Stage(0, 4, ("a",)),), prefill=(Stage(0, 4, ("b",)),)))
    assert "Answers of replica 0" in page
    assert "Prompts of replica 0" in page


def test_replicas_that_are_alike_are_drawn_once() -> None:
    devices = tuple(PlannedDevice(f"d{number}", FAST, "left") for number in range(30))
    fleet = replace(two_hosts(), devices=devices, links={})
    replicas = [Replica((Stage(0, 4, (device.name,)),)) for device in devices]
    page = drawn(fleet, *replicas)
    assert page.count("<svg") == 1
    assert "Replica 0 and 29 alike" in page


def test_a_name_cannot_become_markup() -> None:
    page = drawn(two_hosts(), Replica((Stage(0, 4, ("a",)),)), name="<script>x</script>")
    assert "<script" not in page
