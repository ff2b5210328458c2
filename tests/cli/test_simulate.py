"""`banyan simulate` reads its files, and names what is wrong with them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from banyan.cli.shipped import find_model
from banyan.cli.simulate import run_simulate
from banyan.cli.simulate_arguments import SimulateArguments
from banyan.foundation.errors import InputError, StorageFull
from banyan.foundation.settings import load_settings
from banyan.models.configuration import ModelConfiguration, read_configuration
from banyan.planner.model_shape import model_shape
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import print_plan
from banyan.planner.simulation.result import Figures

INVENTORY = """
[types.box]
kind = "cpu"
vendor = "here"
memory = "1GB"
bandwidth = "20GB/s"
operations = { bfloat16 = "1T" }

[[devices]]
type = "box"
host = "left"
count = 2

[links]
within_host = { bandwidth = "10GB/s", latency = "1us" }
"""
PRICES = 'currency = "EUR"\n[per_hour]\nbox = 0.5\n'
TRACE = "".join(
    json.dumps({"arrival": n / 10, "prompt_tokens": 20 + n, "answer_tokens": 10}) + "\n"
    for n in range(30)
)


@pytest.fixture
def arguments(tmp_path: Path) -> SimulateArguments:
    model = find_model(None)
    configuration = read_configuration(Path(model))
    assert isinstance(configuration, ModelConfiguration)
    shape = model_shape(configuration, model, weight_dtype="int8", cache_dtype="float32")
    layers = len(shape.layers)
    stages = (Stage(0, 2, ("box-0",)), Stage(2, layers, ("box-1",)))
    plan = Plan(
        model=model,
        model_fingerprint=shape.fingerprint,
        num_layers=layers,
        replicas=(Replica(stages),),
    )
    files = {
        "plan.toml": print_plan(plan),
        "inventory.toml": INVENTORY,
        "prices.toml": PRICES,
        "trace.jsonl": TRACE,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return SimulateArguments(
        plan=tmp_path / "plan.toml",
        devices=tmp_path / "inventory.toml",
        prices=tmp_path / "prices.toml",
        trace=tmp_path / "trace.jsonl",
    )


def run(arguments: SimulateArguments) -> Figures:
    cache = str(arguments.plan.parent / "cache")
    return run_simulate(arguments, load_settings({"BANYAN_CACHE": cache, "HF_HUB_OFFLINE": "1"}))


def test_a_trace_is_simulated_and_shown(
    arguments: SimulateArguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html, figures = tmp_path / "out.html", tmp_path / "out.json"
    found = run(replace(arguments, html=html, json_path=figures, goal="ttft=10s,tpot=1s"))
    assert found.num_finished == found.num_good == 30
    told = capsys.readouterr().out
    assert "30 of 30 requests answered" in told
    assert "EUR per million tokens" in told
    assert "30 answers kept to" in told
    assert json.loads(figures.read_text())["num_requests"] == 30
    assert "box-1" in html.read_text()


def test_requests_are_made_where_there_is_no_trace(arguments: SimulateArguments) -> None:
    made = replace(arguments, trace=None, rate=5.0, seconds=10.0, prompt_tokens=30, answer_tokens=5)
    found = run(made)
    assert found.num_requests == found.num_finished > 20
    assert found.prompt_tokens == 30 * found.num_requests
    assert found.answer_tokens == 5 * found.num_requests


def test_failures_are_injected(arguments: SimulateArguments, tmp_path: Path) -> None:
    failures = tmp_path / "failures.jsonl"
    failures.write_text('{"at": 1, "device": "box-1", "seconds": 60}\n')
    found = run(replace(arguments, failures=failures))
    assert found.num_finished == 30
    assert found.seconds > 60
    broken = run(replace(arguments, mean_hours_between_failures=0.001, repair_seconds=5.0))
    assert broken.num_finished == 30


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trace": None}, "give either --trace"),
        ({"rate": 1.0}, "give either --trace"),
        ({"trace": None, "rate": 1.0, "mix": "poems"}, "there is no mix 'poems'"),
        ({"routing": "luck"}, "dealt out by 'luck'"),
        ({"goal": "soon"}, "soon"),
        ({"devices": Path("/nowhere/x.toml")}, "/nowhere/x.toml cannot be read"),
        ({"model": "/nowhere"}, "no model directory"),
        ({"max_num_seqs": 2000}, "do not fit into steps of 1024"),
    ],
)
def test_what_cannot_be_used_is_named(
    arguments: SimulateArguments, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(replace(arguments, **changes))  # type: ignore[arg-type]


def test_a_page_that_cannot_be_written_is_named(arguments: SimulateArguments) -> None:
    with pytest.raises(StorageFull, match="cannot be written"):
        run(replace(arguments, html=Path("/nowhere/out.html")))


def test_a_plan_for_another_model_is_refused(arguments: SimulateArguments) -> None:
    text = arguments.plan.read_text()
    fingerprint = next(line for line in text.splitlines() if "fingerprint" in line)
    arguments.plan.write_text(text.replace(fingerprint, 'fingerprint = "0000"'))
    with pytest.raises(InputError, match="this plan cannot run"):
        run(arguments)
