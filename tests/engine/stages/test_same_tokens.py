"""One model over many devices gives the tokens it gives on one: float32, greedy, many at once."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from banyan.planner.plan import Stage
from tests.conftest import Checkpoint
from tests.engine.stages.arrangements import (
    KINDS,
    OPENCL,
    arrangements,
    environment_of_workers,
    has_namespaces,
    loaded_under,
    num_layers,
)
from tests.engine.stages.plans import greedy_tokens, load_under, plan_text
from tests.pocl import open_pocl


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
WITH_EXPERTS = ("qwen3_moe", "deepseek_v3")
ORDINARY_KINDS = (
    *ORDINARY,
    *(pytest.param(kind, marks=pytest.mark.wide) for kind in WITH_EXPERTS),
)


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
    if kind in WITH_EXPERTS:
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


NUM_REQUESTS, NUM_TOKENS = 16, 128


@pytest.fixture(scope="module")
def on_one_device(checkpoint: Checkpoint, program_cache: Path) -> Callable[[str], list[list[int]]]:
    """The tokens that every arrangement has to give."""

    @cache
    def tokens(kind: str) -> list[list[int]]:
        size = (NUM_REQUESTS, NUM_TOKENS)
        return tokens_under(kind, checkpoint(kind), program_cache, None, size=size)

    return tokens


@pytest.mark.wide
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, each.name) for kind in KINDS for each in arrangements(kind) if each.name != "a"],
)
def test_every_arrangement_gives_the_tokens_of_one_device(
    kind: str,
    name: str,
    on_one_device: Callable[[str], list[list[int]]],
    checkpoint: Checkpoint,
    program_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrangement = next(each for each in arrangements(kind) if each.name == name)
    if "opencl" in arrangement.needs:
        for device in open_pocl():
            assert device.name == OPENCL
    if "namespaces" in arrangement.needs and not has_namespaces():
        pytest.skip("network namespaces need root and the command ip")
    for variable, value in environment_of_workers(program_cache).items():
        monkeypatch.setenv(variable, value)
    with loaded_under(arrangement, checkpoint(kind), program_cache, tmp_path) as loaded:
        found = greedy_tokens(loaded, NUM_REQUESTS, NUM_TOKENS)
    assert found == on_one_device(kind)
