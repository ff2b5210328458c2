"""The house rules that no linter knows: sizes, names, characters, and what must be written down."""

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

from banyan.devices.instruction_sets import INSTRUCTION_SETS

ROOT = Path(__file__).parent.parent
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
FORBIDDEN_NAMES = re.compile(r"^(utils?|helpers?|common|misc|managers?|handlers?)$")
# Text in other languages is data: questions, answers, the Chinese pages.
FOREIGN_TEXT_ALLOWED = (
    "seedling/",
    "models/",
    "docs/",
    "README.zh.md",
    "tests/",
    "src/banyan/cli/demo.py",
)
CODE_SUFFIXES = {".py", ".cpp", ".h", ".sh", ".toml", ".yaml", ".yml"}


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file of the repository that exists, as git lists them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = (ROOT / name for name in listed.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def python_files() -> list[Path]:
    """Every Python file of the repository."""
    return [path for path in tracked_files() if path.suffix == ".py"]


def name_of(path: Path) -> str:
    """The path as people write it."""
    return path.relative_to(ROOT).as_posix()


def waivers() -> dict[str, int]:
    """What may be longer, and how long: `path` or `path::function` -> lines."""
    page = (ROOT / "docs/decisions/0004-sizes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (\d+) \| \S.*\|$", page, re.MULTILINE)
    return {name: int(lines) for name, lines in rows}


def code_of(page: Path) -> list[str]:
    """What a page shows as code: `words` in a line, and lines that begin with a prompt."""
    return re.findall(r"`[^`\n]+`|^\$ .*$", page.read_text(encoding="utf-8"), re.MULTILINE)


def long_files() -> dict[str, int]:
    """Files above the limit."""
    lengths = {name_of(p): len(p.read_text(encoding="utf-8").splitlines()) for p in python_files()}
    return {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES}


def long_functions() -> dict[str, int]:
    """Functions above the limit."""
    found = {}
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    found[f"{name_of(path)}::{node.name}"] = lines
    return found


def test_files_and_functions_are_short_or_listed_with_a_reason() -> None:
    allowed = waivers()
    long = long_files() | long_functions()
    unlisted = {name: lines for name, lines in long.items() if lines > allowed.get(name, 0)}
    assert unlisted == {}
    assert set(allowed) <= set(long), "a waiver in 0004-sizes.md is no longer needed"


def test_no_file_or_class_has_a_name_that_says_nothing() -> None:
    bad = [
        name_of(path)
        for path in python_files()
        if any(FORBIDDEN_NAMES.match(part) for part in path.relative_to(ROOT).with_suffix("").parts)
    ]
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and re.search(r"(Utils?|Helper|Manager)$", node.name):
                bad.append(f"{name_of(path)}::{node.name}")
    assert bad == []


def test_code_is_written_in_ascii() -> None:
    bad = [
        name_of(path)
        for path in tracked_files()
        if path.suffix in CODE_SUFFIXES
        and not name_of(path).startswith(FOREIGN_TEXT_ALLOWED)
        and not path.read_text(encoding="utf-8").isascii()
    ]
    assert bad == []


def test_every_module_of_the_package_says_what_it_is() -> None:
    package = [path for path in python_files() if name_of(path).startswith("src/")]
    assert package
    silent = [name_of(p) for p in package if not ast.get_docstring(ast.parse(p.read_text("utf-8")))]
    assert silent == []


def test_the_package_never_asks_hasattr() -> None:
    asking = [
        name_of(path)
        for path in python_files()
        if name_of(path).startswith("src/") and re.search(r"\bhasattr\(", path.read_text("utf-8"))
    ]
    assert asking == []


def test_the_changelog_mentions_the_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{project['version']}]" in changelog


@pytest.mark.parametrize("page", ["README.md", "README.zh.md", "CONTRIBUTING.md", "docs/start.md"])
def test_every_make_target_a_page_names_exists(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        name for text in code_of(ROOT / page) for name in re.findall(r"\bmake ([a-z-]+)", text)
    }
    assert named, f"{page} names no make target"
    assert named <= targets


def test_the_two_readmes_name_the_same_commands() -> None:
    def commands(name: str) -> list[str]:
        return re.findall(r"\b(?:make|banyan) [a-z-]+", " ".join(code_of(ROOT / name)))

    assert set(commands("README.md")) == set(commands("README.zh.md"))


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"[: -] ([a-z0-9_/-]+\.md)$", navigation, re.MULTILINE))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - named == set()


def test_every_instruction_set_stands_in_the_support_matrix() -> None:
    page = (ROOT / "docs/support_matrix.md").read_text(encoding="utf-8")
    assert [level.name for level in INSTRUCTION_SETS if f"`{level.name}`" not in page] == []
