"""A simulation as a page that needs nothing else."""

from html.parser import HTMLParser

import numpy as np

from banyan.planner.costs import RooflineCost
from banyan.planner.simulation.failures import Failure
from banyan.planner.simulation.fleet import simulate
from banyan.planner.simulation.picture import draw, summary_lines
from banyan.planner.simulation.result import device_uses, figures
from banyan.planner.simulation.trace import Lengths, Trace, made_trace
from banyan.planner.workload import Goal
from tests.planner.simulation.fleets import MODEL, inventory_of, plan_of, single


def _page(count: int, trace: Trace) -> str:
    inventory = inventory_of(count)
    plan = plan_of(*(single(f"d{n}") for n in range(count)))
    result = simulate(
        plan, MODEL, inventory, RooflineCost(), trace, failures=[Failure(at=1.0, device="d0")]
    )
    found = figures(result, inventory, Goal())
    assert any("per million tokens" in line for line in summary_lines(found)) or not len(trace)
    return draw("<dense> & small", result, found, device_uses(result, inventory))


def test_every_device_has_a_row_and_names_are_escaped() -> None:
    page = _page(3, made_trace(20, 5, Lengths(prompt=50, answer=20), seed=0))
    assert "&lt;dense&gt; &amp; small" in page
    for words in ("d0 on small (stopped)", "d1 on small", "d2 on small", "time to first token"):
        assert words in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    HTMLParser().feed(page)


def test_of_many_devices_some_are_shown() -> None:
    page = _page(300, made_trace(20, 5, Lengths(prompt=50, answer=20), seed=0))
    assert "120 of 300 devices are shown" in page
    assert page.count(" on small") == 120


def test_nothing_asked_is_a_page_too() -> None:
    nothing = Trace(np.zeros(0), np.zeros(0, np.int32), np.zeros(0, np.int32))
    assert "0 of 0 requests" in _page(1, nothing)
