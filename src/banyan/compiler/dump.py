"""Everything a compilation went through, as files: the graph after each pass, the text, a page."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from banyan.compiler.compile import LoweredProgram
from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.passes.pipeline import stages
from banyan.compiler.report import CompileReport
from banyan.compiler.tuner.page import program_page
from banyan.compiler.tuner.timeline import Timeline
from banyan.foundation.errors import EnvironmentProblem

PAGE = "index.html"
_SUFFIXES = {"cpp": "cpp", "opencl": "cl", "triton": "py"}


def write_dump(
    directory: Path,
    captured: Graph,
    program: LoweredProgram,
    report: CompileReport,
    timelines: Sequence[Timeline] = (),
) -> list[Path]:
    """Write the files into `directory`, which is made if need be; older ones are replaced.

    Raises:
        EnvironmentProblem: a file cannot be written.
    """
    texts = dict(_texts(captured, program, report))
    page = program_page(report.name, report.rows(), timelines, list(texts))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, text in {**texts, PAGE: page}.items():
            path = directory / name
            path.write_text(text, encoding="utf-8")
            paths.append(path)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write into {directory}: {error}") from error
    return paths


def _texts(
    captured: Graph, program: LoweredProgram, report: CompileReport
) -> Iterator[tuple[str, str]]:
    for number, (name, graph) in enumerate(stages(captured, program.tiling)):
        yield f"{number:02}-{name}.txt", print_graph(graph)
    yield f"program.{_SUFFIXES.get(report.target, 'txt')}", program.text.source
