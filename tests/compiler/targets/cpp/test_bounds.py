"""What is proved of sizes and indices is so for all of them."""

from banyan.compiler.ir.graph import Builder, Kernel, Region, scalar_type
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.bounds import Facts, kernel_facts


def facts_of_grid(size: int) -> Facts:
    item = Builder().parameter(scalar_type(DType.INT64))
    return kernel_facts(Kernel("any", (size,), (), Region((item,), (), ())), ())


def test_an_index_that_rises_with_the_grid_is_largest_at_its_end() -> None:
    item = symbol("grid 0", 0, 7)
    assert facts_of_grid(8).is_below((item + 10) // 3, 6)
    assert not facts_of_grid(8).is_below((item + 10) // 3, 5)


def test_an_index_that_falls_as_the_grid_rises_is_largest_at_its_start() -> None:
    item = symbol("grid 0", 0, 7)
    assert facts_of_grid(8).is_below((10 - item) // 3, 4)
    assert not facts_of_grid(8).is_below((10 - item) // 3, 3)
    assert not facts_of_grid(8).is_below(10 - item, 10)
