from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.passes.pipeline import lower, passes, stages
from banyan.compiler.tiling.options import TileOptions

TEXT = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : f32[3, 4]
  %1 = neg %0 : f32[3, 4]
  output y = %1
}
"""


def test_every_pass_is_named_once_and_shows_its_graph() -> None:
    names = [name for name, _ in stages(parse_graph(TEXT))]
    assert names == ["capture", *(step.name for step in passes(TileOptions()))]
    assert len(set(names)) == len(names)


def test_lower_gives_the_graph_of_the_last_stage() -> None:
    lowered = lower(parse_graph(TEXT))
    assert [node.op for node in lowered.nodes()] == ["input", "call", "get"]


def test_a_target_without_packed_kernels_leaves_packing_out() -> None:
    names = [step.name for step in passes(TileOptions(packing=False))]
    # Windows are written out at once where no program lays them out.
    assert names.index("expand_windows") < names.index("canonical")
    packing = {"merge_linears", "expand_windows"}
    assert [name for name in names if name not in packing] == [
        s.name
        for s in passes(TileOptions())
        if s.name not in packing and not s.name.startswith("pack_")
    ]
