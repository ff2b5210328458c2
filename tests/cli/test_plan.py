import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from banyan.cli.main import main
from banyan.planner.plan_file import parse_plan
from tests.conftest import Checkpoint

INVENTORY = """
[types.quick]
vendor = "one"
memory = "400KB"
bandwidth = "100GB/s"
operations = { float32 = "10T", bfloat16 = "10T" }
watts = 100

[types.large]
vendor = "two"
memory = "40MB"
bandwidth = "10GB/s"
operations = { float32 = "1T", bfloat16 = "1T" }
watts = 50

[[devices]]
type = "quick"
host = "left"
count = 2

[[devices]]
type = "large"
host = "right"

[links]
within_host = { bandwidth = "10GB/s", latency = "1us" }
between_hosts = { bandwidth = "10Gbit/s", latency = "20us" }
"""
PRICES = 'currency = "CNY"\nper_kilowatt_hour = 0.5\n[per_hour]\nquick = 2\nlarge = 1\n'


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Give a folder with an inventory and prices."""
    (tmp_path / "inventory.toml").write_text(INVENTORY)
    (tmp_path / "prices.toml").write_text(PRICES)
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *arguments])
    return int(ended.value.code or 0)


def options(files: Path, *more: str) -> list[str]:
    return ["--devices", str(files / "inventory.toml"), "--workload", "prompt=16,answer=8", *more]


def test_a_model_is_planned_from_its_configuration_alone(
    checkpoint: Checkpoint, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = files / "some_model.json"
    bare.write_bytes((checkpoint("llama") / "config.json").read_bytes())
    prices = ["--prices", str(files / "prices.toml")]
    assert run(str(bare), *options(files, *prices, "--goal", "tpot=50ms,ttft=2s")) == 0
    said = capsys.readouterr().out
    for word in ("layer", "tokens/s ", "the goal is 50 ms", "J for each token", "memory "):
        assert word in said
    assert re.search(r"cost .* CNY for a million tokens", said)
    assert "What lost, and why" in said
    assert "Described, not measured: quick, large" in said


def test_a_plan_is_written_as_toml_and_as_a_page(checkpoint: Checkpoint, files: Path) -> None:
    plan, page = files / "plan.toml", files / "plan.html"
    written = options(files, "--out", str(plan), "--html", str(page))
    assert run(str(checkpoint("llama")), *written) == 0
    parsed = parse_plan(plan.read_text())
    assert parsed.replicas[0].stages[-1].end_layer == parsed.num_layers
    _check_page(page.read_text())


def test_json_holds_everything(
    checkpoint: Checkpoint, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(checkpoint("llama")), *options(files, "--json")) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["plan"]["prediction"]["tokens_per_second"] > 0
    assert "gap" in values["plan"]["prediction"]
    assert {"summary", "alternatives", "remedies", "currency"} <= set(values)
    assert values["described"] == ["quick", "large"]


def test_what_fits_nowhere_is_told_with_exit_code_1(
    checkpoint: Checkpoint, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "inventory.toml").write_text(
        INVENTORY.replace('"400KB"', '"1KB"').replace('"40MB"', '"1KB"')
    )
    assert run(str(checkpoint("llama")), *options(files)) == 1
    found = capsys.readouterr()
    assert "What lost, and why" in found.out
    assert found.err.splitlines()[-1].startswith("error: ")
    assert "short" in found.err


def test_training_is_planned_with_what_lost(
    checkpoint: Checkpoint, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = INVENTORY.replace('"400KB"', '"400MB"').replace('"40MB"', '"400MB"')
    (files / "inventory.toml").write_text(large)
    train = ["--train", "batch=16,sequence=32"]
    assert run(str(checkpoint("llama")), *options(files, *train)) == 0
    said = capsys.readouterr().out
    assert "pipeline 0" in said
    assert "shared evenly" in said or "alone" in said
    assert run(str(checkpoint("llama")), *options(files, *train, "--json")) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["plan"]["step_seconds"] > 0
    assert run(str(checkpoint("llama")), *options(files, *train, "--out", "x")) == 1
    assert "--out is for plans of serving" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--goal", "tpto=1s"], "known are tpot, ttft"),
        (["--objective", "speed"], "--objective 'speed' is not known; use throughput, cost"),
        (["--objective", "cost"], "--objective cost needs prices; name a file with --prices"),
        (["--weights", "int3"], "--weights 'int3' is not known; use auto or one of float32"),
        (["--kv-cache", "x"], "--kv-cache 'x' is not known"),
        (["--prices", "/none.toml"], "the list of prices /none.toml cannot be read: No such file"),
        (["--out", "/none/plan.toml"], "/none/plan.toml cannot be written (No such file"),
        (["--train", "batch=4"], "does not say 'sequence'"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    checkpoint: Checkpoint,
    files: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    sentence: str,
) -> None:
    assert run(str(checkpoint("llama")), *options(files, *more)) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error


def test_an_inventory_without_links_or_prices_is_one_sentence(
    checkpoint: Checkpoint, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "inventory.toml").write_text(INVENTORY.partition("[links]")[0])
    assert run(str(checkpoint("llama")), *options(files)) == 1
    assert "what lies between 'left' and other hosts" in capsys.readouterr().err
    (files / "inventory.toml").write_text(INVENTORY)
    (files / "prices.toml").write_text("[per_hour]\nquick = 2\n")
    assert run(str(checkpoint("llama")), *options(files, "--prices", f"{files}/prices.toml")) == 1
    assert "prices.toml has no price for 'large'" in capsys.readouterr().err


class _Page(HTMLParser):
    """Collects the SVG elements of a page and what would be fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "img", "iframe"}:
            self.fetched.append(tag)
        self.fetched += [name for name, _ in attrs if name in {"src", "href"}]


def _check_page(text: str) -> None:
    page = _Page()
    page.feed(text)
    assert page.fetched == []
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert drawings
    for drawing in drawings:
        assert ET.fromstring(drawing).get("width")
    for word in ("layers 0 to", "KB a token", "idle", "tokens/s"):
        assert word in text
