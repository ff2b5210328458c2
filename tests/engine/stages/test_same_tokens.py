"""One model over many devices gives the tokens it gives on one: float32, greedy, many at once."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from banyan.planner.plan import Stage
from tests.conftest import Checkpoint
from tests.engine.stages.plans import greedy_tokens, load_under, plan_text
from tests.pocl import open_pocl


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


ORDINARY = ("llama", pytest.param("qwen3", marks=pytest.mark.wide))
ORDINARY_KINDS = (*ORDINARY, pytest.param("qwen3_moe", marks=pytest.mark.wide))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ORDINARY_KINDS)
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


@pytest.mark.wide
@pytest.mark.timeout(600)
def test_in_worker_processes(checkpoint: Checkpoint, program_cache: Path) -> None:
    directory = checkpoint("qwen3_moe")
    wanted = tokens_under("qwen3_moe", directory, program_cache, None)
    stages = (
        Stage(0, 1, ("cpu", "cpu#1")),
        Stage(1, 3, ("cpu",), attention=("cpu#2",), experts=("cpu#1",)),
    )
    found = tokens_under("qwen3_moe", directory, program_cache, stages)
    assert found == wanted


@pytest.mark.wide
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["llama", "qwen3", "qwen3_moe"])
def test_over_compiled_opencl_and_interpreted_stages(
    kind: str, checkpoint: Checkpoint, program_cache: Path
) -> None:
    opened = open_pocl()
    device = next(opened)
    directory, end = checkpoint(kind), num_layers(kind)
    workers = [("a", f"inline:{device.name}"), ("b", "inline:cpu"), ("c", "inline:interpreter")]
    size = (4, 8)
    wanted = tokens_under(kind, directory, program_cache, None, size=size)
    two = (Stage(0, 1, ("b",)), Stage(1, end, ("a",)))
    assert tokens_under(kind, directory, program_cache, two, workers[:2], size) == wanted
    three = (Stage(0, 1, ("a",)), Stage(1, end, ("b",), attention=("c",)))
    assert tokens_under(kind, directory, program_cache, three, workers, size) == wanted
    next(opened, None)
