"""A worker that fails: the engine says which, why, and what to do."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from banyan.distributed.channel import Message
from banyan.distributed.in_process import channel_pair
from banyan.engine.stages.part import NumberedSegment
from banyan.engine.stages.remote_part import RemotePart, WorkOrder, serve_part
from banyan.engine.starting.loading import LoadedModel
from banyan.foundation.errors import InputError, StageFailed
from banyan.planner.plan import Stage
from tests.conftest import Checkpoint
from tests.engine.stages.plans import greedy_tokens, load_under, plan_text

ORDER = WorkOrder(
    place="a",
    device="cpu",
    model="nowhere",
    options={},
    dtype="float32",
    cache_format="float32",
    segments=(),
    shards={},
)


class Echo:
    """A part that gives back what it gets, and refuses some."""

    place = "a"
    reports = ()

    def __init__(self) -> None:
        self.arrays: Mapping[str, Any] = {}
        self.is_closed = False

    def load_weights(self, source: Any) -> None:
        raise InputError("weight 'w' is not among those given; add it")

    def begin(self, number: int, arrays: Mapping[str, Any], *, is_first: bool) -> None:
        if number == 9:
            raise StageFailed("layer 9 on a gave NaN")
        self.arrays = arrays

    def finish(self) -> Mapping[str, Any]:
        return self.arrays

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def remote() -> Iterator[RemotePart]:
    ours, theirs = channel_pair("engine", "worker")
    echo = Echo()

    def open_echo(order: WorkOrder, segments: tuple[NumberedSegment, ...]) -> Any:
        assert (order.model, segments) == ("nowhere", ())
        return echo, None

    thread = threading.Thread(target=serve_part, args=(theirs, open_echo))
    thread.start()
    part = RemotePart("a", ours, lambda _: None)
    yield part
    part.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    theirs.close()


def test_arrays_come_back_in_the_order_in_which_runs_were_asked(remote: RemotePart) -> None:
    remote.open(ORDER, ())
    for number in range(3):
        remote.begin(number, {"x": np.full(4, number)}, is_first=True)
    assert [remote.finish()["x"][0] for _ in range(3)] == [0, 1, 2]


def test_the_errors_of_a_worker_are_raised_here_with_its_name(remote: RemotePart) -> None:
    with pytest.raises(StageFailed, match="worker of a: was asked to work before it was told"):
        remote.allocate_state({})
    remote.open(ORDER, ())
    with pytest.raises(InputError, match="the worker of a: weight 'w' is not among"):
        remote.load_weights(None)  # type: ignore[arg-type]
    remote.begin(9, {}, is_first=True)
    with pytest.raises(StageFailed, match="the worker of a: layer 9 on a gave NaN"):
        remote.finish()


def test_an_order_arrives_as_it_was_given() -> None:
    import msgspec  # noqa: PLC0415

    message = Message("open", msgspec.to_builtins(ORDER))
    assert msgspec.convert(dict(message.fields), WorkOrder) == ORDER


def load_two_workers(directory: Path, cache: Path) -> LoadedModel:
    plan = plan_text(Stage(0, 1, ("cpu",)), Stage(1, 2, ("cpu#1",)))
    return load_under(directory, cache, plan, num_sequences=4)


def test_a_killed_worker_is_named_within_a_step(
    checkpoint: Checkpoint, program_cache: Path
) -> None:
    # Other tests of this process may keep a server.
    others = set(_children(os.getpid()))
    loaded = load_two_workers(checkpoint("llama"), program_cache)
    try:
        children = set(_children(os.getpid())) - others
        assert len(children) == 2
        os.kill(max(children), signal.SIGKILL)
        with pytest.raises(
            StageFailed, match=r"the worker of cpu(#1)? is gone .*start the engine"
        ) as gone:
            greedy_tokens(loaded, 2, 4)
        assert gone.value.place in {"cpu", "cpu#1"}
    finally:
        loaded.close()
    assert not children & set(_children(os.getpid()))


def test_a_worker_that_no_longer_answers_is_not_waited_for() -> None:
    seen_off: list[bool] = []
    for breaks in (False, True):
        ours, theirs = channel_pair("engine", "worker")
        part = RemotePart("a", ours, seen_off.append)
        if breaks:
            theirs.close()
            with pytest.raises(StageFailed, match="the worker of a is gone"):
                part.allocate_state({})
        part.close()
        theirs.close()
    assert seen_off == [True, False]


def test_damaged_weights_are_found_and_their_layer_named(
    checkpoint: Checkpoint, program_cache: Path, tmp_path: Path
) -> None:
    for file in checkpoint("llama").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][3, 5] = np.nan
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = load_two_workers(tmp_path, program_cache)
    try:
        with pytest.raises(StageFailed, match=r"worker of cpu#1: layer 1 on cpu#1 gave NaN"):
            greedy_tokens(loaded, 1, 1)
    finally:
        loaded.close()


def _children(process: int) -> list[int]:
    """Workers that this process started and that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        if parent == process and b"stage_worker" in words:
            found.append(int(entry.name))
    return found
