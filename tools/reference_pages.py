"""A hook of the documentation build: one reference page per layer, made from the modules.

A module that is added appears by itself, and a page cannot name one that is gone.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = Path("src") / "banyan"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to what mkdocs builds."""
    for folder in sorted(PACKAGE.iterdir()):
        if (folder / "__init__.py").is_file():
            path = f"reference/{folder.name}.md"
            files.append(File.generated(config, path, content=page_of(folder)))
    return files


def page_of(folder: Path) -> str:
    """Write the page of one layer: its own words, then every public module."""
    lines = [f"# {folder.name}", ""]
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if not parts[-1].startswith("_") or parts[-1] == "__init__":
            lines += [f"::: {name}", ""]
    return "\n".join(lines)
