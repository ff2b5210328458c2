"""The dashboard that ships asks only for metrics that a server has, after one request."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.scripted import ScriptedBackend, chat_body, connect

DASHBOARD = Path(__file__).parents[2] / "deploy/grafana/banyan-serving.json"


def metrics_of_a_server(**settings: Any) -> set[str]:
    async def exchange() -> str:
        async with connect(ScriptedBackend(), **settings) as client:
            await client.post("/v1/chat/completions", json=chat_body())
            return (await client.get("/metrics")).text

    lines = asyncio.run(exchange()).splitlines()
    return {re.split(r"[ {]", line)[0] for line in lines if not line.startswith("#")}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


@pytest.mark.parametrize("names", ["both", "banyan"])
def test_every_metric_that_the_dashboard_asks_for_exists(names: str) -> None:
    served = metrics_of_a_server(metric_names=names)
    asked = {
        name
        for panel in panels()
        for target in panel["targets"]
        for name in re.findall(r"(?:banyan_|vllm:)\w+", target["expr"])
    }
    assert len(asked) > 15
    assert asked - served == set()


def test_panels_have_titles_and_numbers_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["title"] for panel in panels()}) == len(panels())
    assert len({panel["id"] for panel in panels()}) == len(panels())
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
