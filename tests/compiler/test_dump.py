from pathlib import Path

import pytest

from banyan.compiler.compile import CompileOptions, compile_graph, lower_for
from banyan.compiler.dump import write_dump
from banyan.compiler.ir.parse import parse_graph
from banyan.devices.null import NullDevice
from banyan.foundation.errors import EnvironmentProblem
from tests.compiler.small_graphs import mixed_graph


def test_a_dump_holds_the_graph_after_each_pass_the_text_and_a_page(
    tmp_path: Path, program_cache: Path
) -> None:
    graph, device = mixed_graph(), NullDevice()
    options = CompileOptions(program_cache, optimise=False)
    program = lower_for(graph, device=device, options=options)
    report = compile_graph(graph, device=device, options=options).report
    paths = write_dump(tmp_path / "new" / "dump", graph, program, report)
    names = [path.name for path in paths]
    assert names[0] == "00-capture.txt"
    assert names[-2:] == ["program.cpp", "index.html"]
    for path in paths[:-2]:
        assert parse_graph(path.read_text()).name == graph.name
    page = paths[-1].read_text()
    assert all(f'href="{name}"' in page for name in names[:-1])


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, program_cache: Path) -> None:
    (tmp_path / "file").write_text("")
    graph, device = mixed_graph(), NullDevice()
    options = CompileOptions(program_cache, optimise=False)
    program = lower_for(graph, device=device, options=options)
    report = compile_graph(graph, device=device, options=options).report
    with pytest.raises(EnvironmentProblem, match="cannot write into"):
        write_dump(tmp_path / "file" / "dump", graph, program, report)
