"""The documentation follows the source: generated parts are current, examples run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import generate_docs

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
RUNNABLE = re.compile(r"<!-- run this -->\n```python\n(.*?)```", re.DOTALL)


def examples() -> list[tuple[str, str]]:
    """Find the marked examples: page and number, code."""
    return [
        (f"{page.relative_to(ROOT)} {number}", code)
        for page in PAGES
        for number, code in enumerate(RUNNABLE.findall(page.read_text(encoding="utf-8")), start=1)
    ]


def test_generated_parts_say_what_the_source_says() -> None:
    stale = [str(page.relative_to(ROOT)) for page in generate_docs.stale_pages()]
    assert stale == [], "run `python -m tools.generate_docs`"


def test_every_option_of_the_command_line_says_what_it_means() -> None:
    rows = [row for row in generate_docs.command_line().splitlines() if row.startswith("| `")]
    assert rows
    assert [row for row in rows if re.match(r"\| [^|]+ \|\s*\|", row)] == []


def test_a_section_is_replaced_between_its_markers() -> None:
    text = "a\n<!-- begin generated: one -->\nold\n<!-- end generated -->\nb"
    expected = "a\n<!-- begin generated: one -->\nnew\n<!-- end generated -->\nb"
    assert generate_docs.fill(text, {"one": lambda: "new\n"}) == expected
    with pytest.raises(KeyError):
        generate_docs.fill(text, {})


@pytest.mark.parametrize(("name", "code"), examples(), ids=[name for name, _ in examples()])
def test_an_example_runs(name: str, code: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "BANYAN_CACHE": str(tmp_path)},
    )
    assert result.returncode == 0, f"{name}: {result.stderr}"
    assert result.stdout, f"{name} prints nothing"
