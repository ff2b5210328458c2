"""The comparison of servers, in small: ours with a scripted model, and a peer's front."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from banyan.cli.load.outcome import Outcome, summarise
from banyan.cli.load.workload import Workload
from benchmarks import serve_peers as bench
from benchmarks.serve_peers import Window, best_goodputs, judged, unsettled, verdict
from benchmarks.serving.contestants import CONTESTANTS, Contestant, Place, banyan

# The front with a pipeline that writes one token a step, each after a while.
PEER = """
import asyncio, os, sys, time
from benchmarks.serving.openvino_front import Front, Stepper, serve

class Output:
    generated_ids = [7]

class Handle:
    waiting = 0
    def can_read(self): return self.waiting > 0
    def read(self):
        self.waiting -= 1
        return {0: Output()}

class Pipeline:
    handles = []
    def add(self, number, wish):
        self.handles.append(Handle())
        if len(self.handles) > MOST:
            os._exit(1)
        return self.handles[-1]
    def step(self):
        time.sleep(float(sys.argv[2]))
        for handle in self.handles:
            handle.waiting += 1

stepper = Stepper(Pipeline())
stepper.start()
front = Front(stepper, lambda text: list(text.encode()), chr)
asyncio.run(serve(front, int(sys.argv[1])))
"""
SMALL = ("--window", "0.5", "--input-len", "16", "--output-len", "4", "--most", "2")


def peer(file: Path, *, step_seconds: float, most_requests: int = 1000) -> Contestant:
    """The front as a server of its own, which dies when it is asked once too often."""
    file.write_text(PEER.replace("MOST", str(most_requests)), encoding="utf-8")
    return Contestant(
        command=lambda place: [sys.executable, str(file), str(place.port), str(step_seconds)],
        environment=lambda place: {"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )


@pytest.mark.wide
@pytest.mark.end_to_end
def test_each_server_is_loaded_at_rising_rates_and_the_best_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = tmp_path / "history.jsonl"
    contestants = {
        "banyan:fake": banyan("--max-model-len", "256", model=Path("fake")),
        "peer:fast": peer(tmp_path / "fast.py", step_seconds=0.001),
        "peer:slow": peer(tmp_path / "slow.py", step_seconds=0.35),
        # The first request and the burst are nine.
        "peer:dying": peer(tmp_path / "dying.py", step_seconds=0.001, most_requests=9),
        "peer:none": Contestant(command=lambda place: [sys.executable, "-c", "print('no model')"]),
    }
    options = [*SMALL, "--history", str(history), "--tpot-goal", "300"]
    assert bench.main(options, contestants) == 0
    printed = capsys.readouterr().out
    assert "peer:none: the server ended before it answered: no model" in printed
    assert "peer:dying: no server answers" in printed
    assert "times the goodput of peer:fast" in printed
    record = json.loads(history.read_text(encoding="utf-8"))
    assert record["goodput"]["peer:slow"] == record["goodput"]["peer:dying"] == [0.0]
    assert record["goodput"]["banyan:fake"][0] > 1
    windows = record["windows"]
    assert {window["engine"] for window in windows} == {*contestants} - {"peer:none"}
    # Whatever a server counts as a token, its prompts have the length that was asked.
    for window in (one for one in windows if one["engine"] != "peer:dying"):
        each = window["figures"]["prompt_tokens"] / window["figures"]["num_whole"]
        assert each == pytest.approx(16, rel=0.6)
    assert str(tmp_path) not in json.dumps(record)


def outcome(seconds: float, *, num_tokens: int = 11) -> Outcome:
    return Outcome(0.0, (0.1, 0.1 + seconds), num_tokens=num_tokens)


def test_a_rate_is_kept_when_the_slowest_percent_keeps_the_goals() -> None:
    workload = Workload(mix="fixed", num_requests=2, rate=4.0)
    goals = {"tpot": 100.0, "ttft": 1000.0}
    good = judged("x", 0, workload, summarise([outcome(0.5), outcome(0.9)], goals))
    assert good.kept
    assert good.goodput == 4.0
    late = judged("x", 0, workload, summarise([outcome(0.5), outcome(1.1)], goals))
    assert not late.kept
    assert late.goodput == 2.0
    in_one_piece = [outcome(0.5, num_tokens=1), outcome(0.9, num_tokens=1)]
    assert not judged("x", 0, workload, summarise(in_one_piece, goals)).kept
    lost = replace(outcome(0.5), problem="status 503")
    assert not judged("x", 0, workload, summarise([outcome(0.5), lost], goals)).kept


def window(engine: str, number: int, goodput: float, *, kept: bool = True) -> Window:
    return Window(engine, number, goodput, kept, goodput, {})


def test_the_best_of_each_round_counts_and_what_was_not_kept_does_not() -> None:
    windows = [
        window("banyan:int8", 0, 4.0),
        window("banyan:int8", 0, 5.0),
        window("banyan:int8", 1, 6.0),
        window("vllm:bf16", 0, 2.0),
        window("vllm:bf16", 0, 3.0, kept=False),
        window("vllm:bf16", 1, 1.0, kept=False),
    ]
    assert best_goodputs(windows) == {"banyan:int8": [5.0, 6.0], "vllm:bf16": [2.0, 0.0]}


def test_the_bar_is_of_the_best_peer() -> None:
    best: Mapping[str, list[float]] = {
        "banyan:bf16": [1.0],
        "banyan:int8": [5.0],
        "vllm:bf16": [1.0],
        "llamacpp:q8_0": [2.0],
    }
    told = verdict("banyan:int8", best, CONTESTANTS, {})
    assert told == "banyan:int8: 2.50 times the goodput of llamacpp:q8_0 (bar 2.5: met)"
    assert "0.50 times" in verdict("banyan:bf16", best, CONTESTANTS, {})
    alone = verdict("banyan:int8", {"banyan:int8": [5.0], "vllm:bf16": [0.0]}, CONTESTANTS, {})
    assert "no peer kept the goals" in alone


def test_a_peer_whose_rates_were_not_tried_to_their_end_leaves_the_bar_open() -> None:
    settled = [window("vllm:bf16", 0, 2.0), window("vllm:bf16", 0, 2.5, kept=False)]
    assert unsettled(settled) == {}
    rising = [window("llamacpp:q8_0", 0, rate) for rate in (1.0, 1.5)]
    falling = [window("openvino:int8", 0, rate, kept=False) for rate in (3.0, 2.4, 1.9)]
    found = unsettled([*settled, *rising, *falling])
    assert found == {"llamacpp:q8_0": math.inf, "openvino:int8": 1.9}
    best = {
        "banyan:int8": [6.0],
        "vllm:bf16": [2.0],
        "llamacpp:q8_0": [1.5],
        "openvino:int8": [0.0],
    }
    told = verdict("banyan:int8", best, CONTESTANTS, found)
    # OpenVINO failed at less than vLLM kept up; llama.cpp might have gone on.
    assert told.endswith(
        "(bar 2.5: open, more rates must be tried with llamacpp:q8_0: raise --most)"
    )
    alone = verdict("banyan:int8", {"banyan:int8": [6.0], "vllm:bf16": [0.0]}, CONTESTANTS, found)
    assert alone.endswith("at any rate that was tried")


def test_every_server_is_told_the_same_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_SERVER", "/opt/llama-server")
    place = Place(tmp_path, 6, 4321)
    for name, contestant in CONTESTANTS.items():
        told = [*contestant.command(place), *contestant.environment(place).values()]
        assert "6" in told, name
    assert CONTESTANTS["vllm:bf16"].environment(place)["VLLM_CPU_OMP_THREADS_BIND"] == "0-5"


def test_every_server_has_a_command_with_its_port_and_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_SERVER", "/opt/llama-server")
    place = Place(tmp_path, 2, 4321)
    for contestant in CONTESTANTS.values():
        assert "4321" in contestant.command(place)
