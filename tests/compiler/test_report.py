"""The report of a compilation."""

from dataclasses import replace

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.report import CompileReport, ExternUse, count_nodes, extern_uses

REPORT = CompileReport("g", "cpp", "avx2", 8, 2, 3, (), 3 << 20, 2048, 100, 0.25, True)


def test_coverage_is_the_share_of_nodes_in_our_kernels() -> None:
    assert REPORT.coverage == 1.0
    assert replace(REPORT, externs=(ExternUse("aten.sort.default", 2, "no rule"),)).coverage == 0.75
    assert replace(REPORT, num_nodes=0).coverage == 1.0


def test_rows_name_every_number_with_its_unit() -> None:
    shown = dict(REPORT.rows())
    assert shown["weights"] == "3.0 MiB"
    assert shown["arena"] == "2.0 KiB at the largest sizes"
    assert shown["scratch"] == "100 B per thread"
    assert shown["compiled in"] == "0.25 s (from the cache)"
    huge = dict(replace(REPORT, weight_bytes=5 << 40, cached=False).rows())
    assert huge["weights"] == "5.0 TiB"
    assert huge["compiled in"] == "0.25 s"


def test_extern_nodes_are_counted_by_operation() -> None:
    builder = Builder()
    kind = TensorType((4,), DType.FLOAT32)
    x = builder.input("x", kind)
    first = builder.add("extern", (x,), target="aten.a.default", static=(), types=(kind,))
    second = builder.add("extern", (first,), target="aten.a.default", static=(), types=(kind,))
    graph = Graph("g", (x,), (Output("y", builder.add("neg", (second,))),))
    assert count_nodes(graph) == 3
    assert [(use.target, use.count) for use in extern_uses(graph)] == [("aten.a.default", 2)]
