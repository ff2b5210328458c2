"""A hook of the documentation build: one reference page per layer, made from the modules.

A module that is added appears by itself, and a page cannot name one that is gone.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = Path("src") / "banyan"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to what mkdocs builds."""
    for layer in sorted(PACKAGE.iterdir()):
        is_module = layer.suffix == ".py" and not layer.name.startswith("_")
        if is_module or (layer / "__init__.py").is_file():
            path = f"reference/{layer.stem}.md"
            files.append(File.generated(config, path, content=page_of(layer)))
    return files


def page_of(layer: Path) -> str:
    """Write the page of one layer, a folder or a single module: every public module of it."""
    lines = [f"# {layer.stem}", ""]
    for path in sorted(layer.rglob("*.py")) if layer.is_dir() else [layer]:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if not parts[-1].startswith("_") or parts[-1] == "__init__":
            lines += [f"::: {name}", ""]
    return "\n".join(lines)
