"""The comparison with other engines: order of the runs, the best rival, the ratio to it."""

import json
from pathlib import Path

import pytest

from benchmarks import engine_peers as bench
from benchmarks.engine_peers import BARS, Bar, ratios
from benchmarks.slice import ARCHITECTURE

# A driver that answers at once; its rate depends on engine and precision.
DRIVER = """
import json, pathlib, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
peer, precision, case = options["--peer"], options["--precision"], options["--case"]
with open(pathlib.Path(__file__).with_name("asked"), "a") as file:
    file.write(f"{case} {peer}:{precision}\\n")
rate = {"median": {"banyan": 30.0, "llamacpp": 10.0, "openvino": 20.0}[peer]}
print(json.dumps({"peer": peer, "case": case, "prefill_tok_s": rate, "decode_tok_s": rate,
                  "info": {"version": "1"}, "foreign_cpu_frac": 0.25}))
"""


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Options that keep everything below `tmp_path`, with a made-up driver and model."""
    peers, model = tmp_path / "peers", tmp_path / "root" / "models" / ARCHITECTURE
    peers.mkdir()
    model.mkdir(parents=True)
    (peers / "run_peer.py").write_text(DRIVER, encoding="utf-8")
    (model / "tokenizer.json").touch()
    history = str(tmp_path / "history.jsonl")
    return ["--peers", str(peers), "--model-root", str(tmp_path / "root"), "--history", history]


def test_the_engine_that_begins_moves_on_with_each_round(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = ["banyan:bf16", "llamacpp:bf16", "openvino:bf16"]
    more = ["--rounds", "2", "--cases", "decode1", "--engines", *engines]
    assert bench.main([*folders, *more]) == 0
    asked = (tmp_path / "peers" / "asked").read_text(encoding="utf-8").splitlines()
    assert asked == [
        *(f"prepare {engine}" for engine in engines),
        *(f"decode1 {engine}" for engine in engines),
        "decode1 llamacpp:bf16",
        "decode1 openvino:bf16",
        "decode1 banyan:bf16",
    ]
    assert "1.50 (1.50, 1.50)" in capsys.readouterr().out
    record = json.loads((tmp_path / "history.jsonl").read_text(encoding="utf-8"))
    assert record["rates"]["decode1 banyan:bf16"] == [30.0, 30.0]
    assert str(tmp_path) not in json.dumps(record)


def test_the_best_rival_of_the_class_is_compared_round_by_round() -> None:
    rates = {
        ("decode1", "banyan:bf16"): [30.0, 20.0],
        ("decode1", "llamacpp:bf16"): [10.0, 10.0],
        ("decode1", "openvino:bf16"): [20.0, 16.0],
        ("decode1", "openvino:int8"): [90.0, 90.0],
    }
    bar = Bar("decode1", "banyan:bf16", "16 bits", 1.25)
    assert ratios(bar, rates) == ("openvino:bf16", [1.5, 1.25])


def test_a_bar_of_any_precision_looks_at_every_engine() -> None:
    rates = {
        ("batch16", "banyan:int8+kv8"): [30.0],
        ("batch16", "openvino:bf16"): [10.0],
        ("batch16", "llamacpp:q4_0"): [15.0],
    }
    bar = Bar("batch16", "banyan:int8+kv8", bench.ANY, 2.5)
    assert ratios(bar, rates) == ("llamacpp:q4_0", [2.0])


def test_what_was_not_measured_has_no_ratio() -> None:
    assert all(ratios(bar, {}) is None for bar in BARS)


def test_a_missing_driver_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--peers", str(tmp_path)]) == 1
    assert "run_peer.py was not found" in capsys.readouterr().out
