"""The table of devices that ran the kit, in the support matrix. Pure: text in, text out."""

import re
from dataclasses import dataclass

from banyan.engine.workbench.conformance.checks import ConformanceReport
from banyan.foundation.errors import InputError

BEGIN, END = "<!-- begin conformance -->", "<!-- end conformance -->"
_HEAD = (
    "| device | chip | target | checks passed | status | date | commit |\n"
    "|---|---|---|---|---|---|---|\n"
)
_SECTION = re.compile(f"{re.escape(BEGIN)}\n(?P<table>.*?){re.escape(END)}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Row:
    """Attributes:
    device: kind of device, without its number: "cpu", "opencl".
    chip: the maker's name.
    target: the printer of its programs.
    passed: checks that passed, of how many: "412 of 412".
    status: verified, emulated or described.
    date: YYYY-MM-DD.
    commit: of the source that ran.
    """

    device: str
    chip: str
    target: str
    passed: str
    status: str
    date: str
    commit: str

    @property
    def text(self) -> str:
        """One line of the table."""
        cells = (
            f"`{self.device}`",
            self.chip,
            self.target,
            self.passed,
            self.status,
            self.date,
            f"`{self.commit}`",
        )
        return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def row_of(report: ConformanceReport, *, date: str, commit: str) -> Row:
    """The row that a report earns."""
    passed = len(report.checks) - len(report.failures)
    return Row(
        device=report.device.partition(":")[0],
        chip=report.model,
        target=report.target,
        passed=f"{passed} of {len(report.checks)}",
        status=report.status,
        date=date,
        commit=commit,
    )


def with_row(text: str, row: Row) -> str:
    """The page with this row in place of an older one of the same device and chip.

    Raises:
        InputError: the page has no table of conformance.
    """
    found = require_table(text)
    key = row.text.split(" | ")[:2]
    kept = [line for line in found["table"].splitlines() if line.startswith("| `")]
    rows = sorted([*(line for line in kept if line.split(" | ")[:2] != key), row.text])
    table = f"{BEGIN}\n{_HEAD}" + "".join(f"{line}\n" for line in rows) + END
    return text[: found.start()] + table + text[found.end() :]


def require_table(text: str) -> re.Match[str]:
    """Find the table of a page.

    Raises:
        InputError: there is none.
    """
    found = _SECTION.search(text)
    if found is None:
        raise InputError(
            f"the page has no lines {BEGIN!r} and {END!r} to write between; add both, or name "
            "docs/support_matrix.md"
        )
    return found


def _plain(cell: str) -> str:
    """A cell that cannot end its column or its line."""
    return " ".join(cell.replace("|", "/").split())
