"""One model over many devices gives the tokens it gives on one: float32, greedy, many at once."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from banyan.planner.plan import Stage
from tests.conftest import Checkpoint
from tests.engine.stages.plans import greedy_tokens, load_under, plan_text

KINDS = ("llama", "qwen3", "qwen3_moe")
INLINE = {
    "two processors": (("cpu", "cpu#1"), ("inline:cpu", "inline:cpu")),
    "C++ and OpenCL": (("cpu", "opencl"), ("inline:cpu", "inline:opencl:0")),
}


def num_layers(kind: str) -> int:
    return 3 if kind == "qwen3_moe" else 2


def halves(kind: str, first: Stage, second: Stage) -> tuple[Stage, Stage]:
    """Two stages, the first with one layer."""
    return (
        Stage(0, 1, first.devices, first.attention, first.experts),
        Stage(1, num_layers(kind), second.devices, second.attention, second.experts),
    )


def stage(*devices: str, attention: Sequence[str] = (), experts: Sequence[str] = ()) -> Stage:
    return Stage(0, 0, devices, tuple(attention), tuple(experts))


def tokens_under(
    kind: str,
    directory: Path,
    cache: Path,
    stages: Sequence[Stage] | None,
    workers: Sequence[tuple[str, str]] = (),
    size: tuple[int, int] = (6, 16),
) -> list[list[int]]:
    plan = None if stages is None else plan_text(*stages)
    loaded = load_under(directory, cache, plan, workers=workers)
    try:
        return greedy_tokens(loaded, *size)
    finally:
        loaded.close()


def inline(**devices: str) -> list[tuple[str, str]]:
    return [(place, f"inline:{device}") for place, device in devices.items()]


@pytest.mark.parametrize("kind", KINDS)
def test_in_one_process(kind: str, checkpoint: Checkpoint, program_cache: Path) -> None:
    directory = checkpoint(kind)
    end = num_layers(kind)
    layouts: dict[str, tuple[Sequence[Stage], list[tuple[str, str]]]] = {
        "two stages": (halves(kind, stage("a"), stage("b")), inline(a="cpu", b="cpu")),
        "attention apart": (
            (Stage(0, end, ("a",), attention=("b",)),),
            inline(a="cpu", b="cpu"),
        ),
        "tensors in two": ((Stage(0, end, ("a", "b")),), inline(a="cpu", b="cpu")),
    }
    if kind == "qwen3_moe":
        layouts["experts apart"] = (
            (Stage(0, end, ("a",), experts=("b",)),),
            inline(a="cpu", b="cpu"),
        )
    wanted = tokens_under(kind, directory, program_cache, None)
    for name, (stages, workers) in layouts.items():
        found = tokens_under(kind, directory, program_cache, stages, workers)
        assert found == wanted, name


def test_in_worker_processes(checkpoint: Checkpoint, program_cache: Path) -> None:
    directory = checkpoint("qwen3_moe")
    wanted = tokens_under("qwen3_moe", directory, program_cache, None)
    stages = (
        Stage(0, 1, ("cpu", "cpu#1")),
        Stage(1, 3, ("cpu",), attention=("cpu#2",), experts=("cpu#1",)),
    )
    found = tokens_under("qwen3_moe", directory, program_cache, stages)
    assert found == wanted
