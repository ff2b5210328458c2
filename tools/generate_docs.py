"""Write the parts of the documentation that follow from the source.

`python -m tools.generate_docs` rewrites what stands between the markers
`<!-- begin generated: NAME -->` and `<!-- end generated -->` in the pages of docs/. A test fails
when a page is not what this would write, so the pages cannot rot.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from tools import http_api

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_SECTION = re.compile(
    r"(?P<begin><!-- begin generated: (?P<name>[a-z ]+) -->\n).*?(?P<end><!-- end generated -->)",
    re.DOTALL,
)


def main() -> int:
    """Rewrite every page that is out of date and name it."""
    for page, text in stale_pages().items():
        page.write_text(text, encoding="utf-8")
        print(f"wrote {page.relative_to(ROOT)}")
    return 0


def stale_pages() -> dict[Path, str]:
    """Find the pages whose generated parts differ from what the source says, with the new text."""
    stale = {}
    for page in sorted(DOCS.rglob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = fill(old, sections())
        if new != old:
            stale[page] = new
    return stale


def fill(text: str, writers: Mapping[str, Callable[[], str]]) -> str:
    """Replace the content of each marked section; a marker nobody writes for is a `KeyError`."""

    def replace(match: re.Match[str]) -> str:
        return f"{match['begin']}{writers[match['name']]().strip()}\n{match['end']}"

    return _SECTION.sub(replace, text)


def sections() -> dict[str, Callable[[], str]]:
    """Name every section and its writer; heavy libraries are imported only by the writer."""
    return {
        "errors": errors,
        "chips": chips,
        "command line": command_line,
        "life of a graph": life_of_a_graph,
        "endpoints": http_api.endpoints,
        "request fields": http_api.request_fields,
        "metrics": http_api.metrics,
    }


def errors() -> str:
    """List every exception class of the package, in the order of the source."""
    lines = ["| error | derives from | where | when |", "|---|---|---|---|"]
    for name, base, module, words in exception_classes():
        lines.append(f"| `{name}` | `{base}` | `{module}` | {words} |")
    return "\n".join(lines)


def exception_classes() -> Iterator[tuple[str, str, str, str]]:
    """Find classes that derive from an exception: name, base, module, first line of docstring."""
    known = {"Exception", "ValueError", "RuntimeError", "KeyError", "TypeError", "OSError"}
    package = ROOT / "src"
    paths = sorted(package.rglob("*.py"), key=lambda path: ("foundation" not in path.parts, path))
    for path in paths:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef):
                continue
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            if known.isdisjoint(bases):
                continue
            known.add(node.name)
            module = ".".join(path.relative_to(package).with_suffix("").parts[1:])
            words = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            yield node.name, bases[0], module, words


def chips() -> str:
    """List the chips that discovery knows."""
    from banyan.devices.discovery import known_probes  # noqa: PLC0415

    lines = ["| chip | vendor | PCI vendor | number formats | status |", "|---|---|---|---|---|"]
    for probe in known_probes():
        chip = probe.chip
        vendors = ", ".join(f"`{vendor}`" for vendor in chip.pci_vendor_ids) or "none"
        formats = ", ".join(chip.dtypes)
        lines.append(f"| `{chip.name}` | {chip.vendor} | {vendors} | {formats} | {chip.status} |")
    return "\n".join(lines)


def command_line() -> str:
    """Describe every command with its arguments and options, as `--help` does."""
    import typer.main  # noqa: PLC0415

    from banyan.cli.main import app  # noqa: PLC0415

    lines: list[str] = []
    for name, command in commands_of(typer.main.get_command(app)):
        lines += [f"## banyan {name}", "", clean(command.help), ""]
        rows = [row_of(parameter) for parameter in command.params if not parameter.hidden]
        if rows:
            lines += ["| | meaning | default |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def commands_of(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its full name, those of groups too."""
    from typer.core import TyperGroup  # noqa: PLC0415

    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands_of(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def life_of_a_graph() -> str:
    """Show one module at every stage of the compiler."""
    from tools import life_of_a_graph as page  # noqa: PLC0415

    return page.life_of_a_graph()


def row_of(parameter: Any) -> str:
    """Write one argument or option as a row of a table."""
    is_option = parameter.param_type_name == "option"
    words = [*parameter.opts, *parameter.secondary_opts] if is_option else [parameter.name.upper()]
    spelled = ", ".join(f"`{word}`" for word in words)
    default = parameter.default
    shown = "" if default is None or default is False or callable(default) else f"`{default}`"
    if parameter.required:
        shown = "required"
    return f"| {spelled} | {clean(parameter.help)} | {shown} |"


def clean(text: str | None) -> str:
    """Put help text on one line, without markup and what a table would misread."""
    plain = Text.from_markup(text or "").plain
    return " ".join(plain.replace("|", "\\|").split())


if __name__ == "__main__":
    sys.exit(main())
