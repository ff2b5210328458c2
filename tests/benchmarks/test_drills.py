"""Slices of the drills; `python -m benchmarks.drills` has a hundred events."""

import asyncio
import json
from pathlib import Path

import pytest

from benchmarks.drilling.answers import told_difference
from benchmarks.drilling.verdict import Event, KeptRun, Verdict, read_record
from benchmarks.drills import SEEDLING, drill_server, main


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("num_events", "seed"), [(1, 1), pytest.param(8, 2, marks=pytest.mark.wide)]
)
def test_no_token_is_lost_repeated_or_changed_when_a_part_of_a_plan_dies(
    num_events: int, seed: int
) -> None:
    said: list[Verdict] = []
    verdict = asyncio.run(
        drill_server(str(SEEDLING), num_events=num_events, clients=6, seed=seed, say=said.append)
    )
    assert not verdict.failures
    assert verdict.whole >= 6
    assert verdict.num_faults == num_events
    # Answers may end before the far worker is back; faults are too quick for that.
    assert all(event.pauses for event in verdict.events if event.is_fault)
    assert [each.num_faults for each in said] == [*range(1, num_events + 1), num_events]


def test_a_difference_is_told_by_its_place() -> None:
    assert told_difference("abc", "abcd") == "tokens lost at the end"
    assert told_difference("abxd", "abcd") == "another text than alone, from character 2"


KILLS = tuple(Event("kill", "worker", (pause, pause, 9.0)) for pause in (1.0, 1.5, 3.0))
RETURN = Event("return", "far worker", (4.0,), is_asked=True)


def test_the_bar_holds_only_for_all_faults_without_a_wrong_answer_and_with_short_pauses() -> None:
    assert Verdict(3, 10, {}, (*KILLS, RETURN)).holds
    assert not Verdict(4, 10, {}, (*KILLS, RETURN)).holds
    assert not Verdict(3, 10, {"hung": 1}, KILLS).holds
    assert not Verdict(1, 10, {}, (KILLS[2],)).holds
    assert not Verdict(0, 10).holds


def test_a_verdict_tells_faults_and_returns_apart_and_every_failure() -> None:
    lines = list(Verdict(5, 10, {"hung": 2}, (*KILLS, RETURN)).lines())
    assert lines == [
        "3 of 5 faults",
        "10 answers whole and right, 2 not",
        "FAILED 2 x: hung",
        "all faults                    3 events, pause 1.50 s, longest 3.00 s",
        "all returns                   1 events, pause 4.00 s, longest 4.00 s",
        "kill of the worker            3 events, pause 1.50 s, longest 3.00 s",
        "return of the far worker      1 events, pause 4.00 s, longest 4.00 s",
        "the bar is not shown",
    ]


def test_a_run_is_the_last_line_of_its_file_from_its_first_event_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text('{"an": "older run"}\n')
    kept = KeptRun(path, {"seed": 7})
    whole = Verdict(3, 10, {}, (*KILLS, RETURN))
    for verdict in (Verdict(3, 2, {}, KILLS[:1]), whole):
        kept.write(verdict)
    older, newest = (json.loads(line) for line in path.read_text().splitlines())
    assert (older, newest["seed"]) == ({"an": "older run"}, 7)
    assert read_record(newest) == whole
    assert main(["--report", str(path)]) == 0
    assert capsys.readouterr().out.startswith("3 of 3 faults\n")
