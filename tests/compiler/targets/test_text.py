"""Sizes as text of a language."""

from banyan.compiler.ir.symbols import symbol
from banyan.compiler.targets.text import size_text

T, N = symbol("T", 1, 64), symbol("N", 1, 64)


def text(dim: object) -> str:
    return size_text(dim, str.lower, "({} / {})", "floor({}, {})")  # type: ignore[arg-type]


def test_sums_stand_in_brackets_and_products_do_not() -> None:
    assert text(7) == "7"
    assert text(T) == "t"
    assert text(T * N * 3) == "3 * n * t"
    assert text(T * 2 + 1) == "(2 * t + 1)"


def test_a_quotient_that_may_be_negative_is_rounded_down_by_name() -> None:
    assert text((T + 15) // 16) == "((t + 15) / 16)"
    assert text((T - 2) // 16) == "floor((t + -2), 16)"
