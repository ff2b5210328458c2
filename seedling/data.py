"""Collect the text that the seedling is pretrained on: `python -m seedling.data`.

Three sources, all owned by this repository or openly licensed: the repository's own pages and
docstrings, the documentation inside the Python distribution, and documentation packages of Debian.
The result is one JSON line per passage, in a cache folder outside the repository.
"""

import argparse
import ast
import gzip
import json
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc_data.topics import topics

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_CACHE = Path.home() / ".cache" / "banyan-seedling"
SHORTEST_PASSAGE = 24
LONGEST_PASSAGE = 1600
LARGEST_PYTHON_TEXT = 1_600_000
COPYLEFT_NOTICE = "copies and changes under the notice of the Debian FAQ"
CHINESE = re.compile(r"[\u3400-\u9fff\uff00-\uffef\u3000-\u303f]")
LISTING = re.compile(r"[|+][-=]|\|.*\||^[$#%>]|[-=_.*~]{6,}|https?://\S{40,}", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """One Debian documentation package: its name, its text files and its licence."""

    package: str
    pattern: str
    language: str
    licence: str


DEBIAN_SOURCES = (
    Source("debian-reference-zh-cn", "debian-reference.zh-cn.txt.gz", "zh", "GPL-2.0-or-later"),
    Source("debian-reference-en", "debian-reference.en.txt.gz", "en", "GPL-2.0-or-later"),
    Source("debian-faq-zh-cn", "debian-faq.zh-cn.txt.gz", "zh", COPYLEFT_NOTICE),
    Source("debian-faq", "debian-faq.en.txt.gz", "en", COPYLEFT_NOTICE),
    Source("maint-guide-zh-cn", "maint-guide.zh-cn.txt.gz", "zh", "GPL-2.0-or-later"),
    Source("debmake-doc", "debmake-doc.zh-cn.txt.gz", "zh", "MIT"),
    Source("debmake-doc", "debmake-doc.en.txt.gz", "en", "MIT"),
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A paragraph or a few of them, with where it came from."""

    source: str
    language: str
    text: str


def join_lines(lines: list[str]) -> str:
    """Undo the hard wrapping of a paragraph; between Chinese characters no space is put."""
    joined = ""
    for line in (line.strip() for line in lines):
        boundary = bool(joined) and not (
            CHINESE.match(joined[-1]) and line and CHINESE.match(line[0])
        )
        joined += (" " if boundary and line else "") + line
    return re.sub(r"\s+", " ", joined).strip()


def paragraphs(text: str) -> Iterator[str]:
    """Yield the prose paragraphs of a plain text; tables, rules and listings are left out."""
    for block in re.split(r"\n\s*\n", text.expandtabs(4)):
        if LISTING.search(block.strip()):
            continue
        paragraph = join_lines(block.splitlines())
        letters = sum(character.isalpha() for character in paragraph)
        if len(paragraph) >= SHORTEST_PASSAGE and letters >= 0.6 * len(paragraph):
            yield paragraph


def passages(source: str, language: str, text: str) -> Iterator[Passage]:
    """Yield passages of neighbouring paragraphs, each at most LONGEST_PASSAGE characters."""
    gathered = ""
    for paragraph in paragraphs(text):
        if gathered and len(gathered) + len(paragraph) > LONGEST_PASSAGE:
            yield Passage(source, language, gathered)
            gathered = ""
        gathered = f"{gathered}\n{paragraph}" if gathered else paragraph[:LONGEST_PASSAGE]
    if gathered:
        yield Passage(source, language, gathered)


def docstrings(path: Path) -> str:
    """Return the docstrings of a Python file, blank line between them."""
    tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return "\n\n".join(text for text in found if text)


def repository_passages(root: Path) -> Iterator[Passage]:
    """Yield the pages and the docstrings of this repository."""
    pages = sorted(root.glob("*.md")) + sorted(root.glob("docs/**/*.md"))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        language = "zh" if len(CHINESE.findall(text)) > 0.2 * len(text) else "en"
        yield from passages("Banyan", language, re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for module in sorted(root.glob("src/**/*.py")):
        yield from passages("Banyan", "en", docstrings(module))


def python_passages() -> Iterator[Passage]:
    """Yield the language reference kept in pydoc and the standard library's docstrings."""
    for name in sorted(topics):
        yield from passages("Python", "en", topics[name])
    library = Path(sysconfig.get_path("stdlib"))
    taken = 0
    for module in sorted(library.glob("*.py")) + sorted(library.glob("[a-z]*/*.py")):
        if "packages" in module.parts[-2] or module.parts[-2] in {"test", "idlelib", "lib2to3"}:
            continue
        for passage in passages("Python", "en", docstrings(module)):
            taken += len(passage.text)
            yield passage
        if taken > LARGEST_PYTHON_TEXT:
            return


def fetch_debian(package: str, folder: Path) -> Path | None:
    """Download and unpack a Debian package into `folder`; None where that is not possible."""
    unpacked = folder / package
    if unpacked.is_dir():
        return unpacked
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
        archive = next(iter(sorted(folder.glob(f"{package}_*.deb"))))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(unpacked)], check=True)
    except (OSError, subprocess.CalledProcessError) as reason:
        print(f"left out {package}: {reason}")
        return None
    return unpacked


def debian_passages(folder: Path) -> Iterator[Passage]:
    """Yield the documentation of the Debian packages named in DEBIAN_SOURCES."""
    for source in DEBIAN_SOURCES:
        unpacked = fetch_debian(source.package, folder)
        for path in sorted(unpacked.rglob(source.pattern)) if unpacked else []:
            text = gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")
            yield from passages(source.package, source.language, text)


def collect(cache: Path) -> Path:
    """Write every passage, duplicates dropped, to `cache`/corpus.jsonl and return its path."""
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / "corpus.jsonl"
    seen: set[str] = set()
    sizes: dict[tuple[str, str], int] = {}
    with target.open("w", encoding="utf-8") as stream:
        for produced in (
            repository_passages(REPOSITORY),
            python_passages(),
            debian_passages(cache / "debian"),
        ):
            for passage in produced:
                if passage.text in seen:
                    continue
                seen.add(passage.text)
                key = (passage.source, passage.language)
                sizes[key] = sizes.get(key, 0) + len(passage.text)
                stream.write(json.dumps(asdict(passage), ensure_ascii=False) + "\n")
    for (name, language), size in sorted(sizes.items()):
        print(f"{name:26} {language} {size:9,} characters")
    return target


def load_passages(cache: Path) -> list[Passage]:
    """Read what `collect` wrote."""
    with (cache / "corpus.jsonl").open(encoding="utf-8") as stream:
        return [Passage(**json.loads(line)) for line in stream]


def main() -> None:
    """Collect the corpus into the cache folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    print(collect(parser.parse_args().cache))


if __name__ == "__main__":
    main()
