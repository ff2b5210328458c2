import json
from pathlib import Path

import pytest

from benchmarks import slice as bench

# A driver that answers at once: rates differ by engine and case; asks are written to a file.
DRIVER = """
import json, pathlib, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
peer, case = options["--peer"], options["--case"]
with open(pathlib.Path(__file__).with_name("asked"), "a") as file:
    file.write(f"{case} {peer}\\n")
if case == "prepare":
    print(json.dumps({"peer": peer}))
    raise SystemExit
rate = {"median": 30.0 if peer == "banyan" else 10.0}
print("some noise")
print(json.dumps({"peer": peer, "case": case, "prefill_tok_s": rate, "decode_tok_s": rate,
                  "info": {"banyan": "0.1"}, "foreign_cpu_frac": 0.25}))
"""
MAKER = """
import pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True)
(out / "tokenizer.json").touch()
"""


@pytest.fixture
def peers(tmp_path: Path) -> Path:
    """A folder with a made-up driver and model maker."""
    folder = tmp_path / "peers"
    folder.mkdir()
    (folder / "run_peer.py").write_text(DRIVER, encoding="utf-8")
    (folder / "make_model.py").write_text(MAKER, encoding="utf-8")
    return folder


def run(peers: Path, tmp_path: Path, *more: str) -> int:
    """Run the benchmark with everything below `tmp_path`."""
    folders = ["--peers", str(peers), "--model-root", str(tmp_path / "root")]
    return bench.main([*folders, "--history", str(tmp_path / "history.jsonl"), *more])


def test_engines_take_turns_and_the_first_one_alternates(
    peers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(peers, tmp_path, "--rounds", "2", "--cases", "decode1") == 0
    assert (peers / "asked").read_text(encoding="utf-8").splitlines() == [
        "prepare banyan",
        "prepare llamacpp",
        "decode1 banyan",
        "decode1 llamacpp",
        "decode1 llamacpp",
        "decode1 banyan",
    ]
    printed = capsys.readouterr().out
    assert "Making a qwen3-0.6b model" in printed
    assert "3.00" in printed
    assert "not met" not in printed


def test_a_run_is_kept_as_one_line_without_any_path(
    peers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(peers, tmp_path, "--rounds", "1") == 0
    assert run(peers, tmp_path, "--rounds", "1") == 0
    lines = (tmp_path / "history.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    record = json.loads(lines[0])
    assert record["cases"]["prefill512"] == {
        "banyan": [30.0],
        "llamacpp": [10.0],
        "ratio": 3.0,
        "bar": 5.0,
    }
    assert record["foreign_cpu_fraction"] == 0.25
    assert record["versions"] == {"banyan": "0.1", "llamacpp": "0.1"}
    assert str(tmp_path) not in lines[0]
    assert "not met" in capsys.readouterr().out


def test_a_missing_driver_is_one_clear_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "nowhere", tmp_path) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("The benchmark driver run_peer.py was not found")
    assert printed.endswith("BANYAN_PEERS.")


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        ("raise SystemExit('no such engine')", "banyan, case prepare failed: no such engine"),
        ("print('nothing')", "banyan, case prepare: the driver printed no result"),
        ("", "the driver printed no result"),
    ],
)
def test_a_driver_that_fails_is_named_with_its_last_words(
    peers: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    driver: str,
    message: str,
) -> None:
    (peers / "run_peer.py").write_text(driver, encoding="utf-8")
    assert run(peers, tmp_path) == 1
    assert message in " ".join(capsys.readouterr().out.split())
