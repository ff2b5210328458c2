import pytest

from banyan.engine.workbench.conformance.checks import Check, ConformanceReport
from banyan.engine.workbench.conformance.matrix import BEGIN, END, Row, row_of, with_row
from banyan.foundation.errors import InputError

CPU = Row("cpu", "EPYC", "cpp", "9 of 9", "verified", "2026-01-02", "abc")
PAGE = f"# Matrix\n\n{BEGIN}\n{END}\n\nMore.\n"


def lines(page: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith("| `")]


def test_a_row_is_written_between_the_markers_and_nothing_else_changes() -> None:
    page = with_row(PAGE, CPU)
    assert lines(page) == ["| `cpu` | EPYC | cpp | 9 of 9 | verified | 2026-01-02 | `abc` |"]
    assert page.startswith(f"# Matrix\n\n{BEGIN}\n| device |")
    assert page.endswith(f"{END}\n\nMore.\n")


def test_a_newer_row_takes_the_place_of_the_older_one_of_the_same_chip() -> None:
    newer = Row("cpu", "EPYC", "cpp", "8 of 9", "described", "2026-02-03", "def")
    other = Row("cpu", "Graviton", "cpp", "9 of 9", "verified", "2026-01-02", "abc")
    page = with_row(with_row(with_row(PAGE, CPU), other), newer)
    assert lines(page) == [newer.text, other.text]
    assert with_row(page, newer) == page


def test_a_page_without_a_table_is_refused() -> None:
    with pytest.raises(InputError, match="no lines"):
        with_row("# Matrix\n", CPU)


def test_a_chip_cannot_name_itself_out_of_its_column() -> None:
    assert (
        Row("cpu", "A | verified\n| B", "cpp", "0 of 1", "described", "d", "c").text.count("|") == 8
    )


def test_the_row_of_a_report_counts_what_passed() -> None:
    checks = (
        Check("memory", "copies", True, "0 differ"),
        Check("operators", "exp", False, "differs by 1"),
    )
    report = ConformanceReport("opencl:1", "PoCL", "opencl", checks, "described")
    row = row_of(report, date="2026-01-02", commit="abc")
    assert (row.device, row.passed, row.status) == ("opencl", "1 of 2", "described")
    assert report.failures == checks[1:]
