"""What the engine asks of a worker, and what it makes of a worker that fails."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from banyan.distributed.channel import Message
from banyan.distributed.in_process import channel_pair
from banyan.engine.stages.addresses import Neighbour
from banyan.engine.stages.part import ENGINE
from banyan.engine.stages.remote_part import RemotePart, WorkOrder, described
from banyan.engine.starting.loading import LoadedModel
from banyan.foundation.errors import InputError, StageFailed
from banyan.planner.plan import Stage
from tests.conftest import Checkpoint
from tests.engine.stages.plans import greedy_tokens, load_under, plan_text
from tests.engine.stages.segments import segment
from tests.engine.stages.workers import workers_of

ORDER = WorkOrder(
    place="a",
    device="cpu",
    model="nowhere",
    options={},
    dtype="float32",
    cache_format="float32",
    segments=((0, {"b": ("v",)}, "layer 0", {"u": "b"}),),
    shards={},
    neighbours=(Neighbour("b", "dial", "10.0.0.7", 4711),),
    session="s",
    has_several_steps=True,
)


class Worker:
    """The other end of a channel, which says what it is told to."""

    def __init__(self) -> None:
        self.part_end, self.end = channel_pair("engine", "worker")
        self.seen_off: list[bool] = []
        self.part = RemotePart("a", self.part_end, self.seen_off.append)

    def close(self) -> None:
        self.part.close()
        self.end.close()


@pytest.fixture
def worker() -> Iterator[Worker]:
    with closing(Worker()) as found:
        yield found


def test_what_a_worker_says_unasked_is_passed_on_while_an_answer_is_waited_for(
    worker: Worker,
) -> None:
    heard: list[tuple[str, str]] = []
    worker.part.on_unasked = lambda place, message: heard.append((place, message.kind))
    worker.end.send(Message("values", {"step": 1}))
    worker.end.send(Message("done", {}, {"keys": np.full((1, 2), 5.0)}))
    assert worker.part.read_state_parts(["keys"], [3])["keys"].tolist() == [[5.0, 5.0]]
    assert heard == [("a", "values")]
    asked = worker.end.receive(timeout=5)
    assert (asked.kind, dict(asked.fields)) == ("read", {"names": ["keys"], "indices": [3]})


def test_the_errors_of_a_worker_are_raised_here_with_its_name(worker: Worker) -> None:
    worker.end.send(Message("refused", {"error": "StageFailed", "message": "has no memory"}))
    with pytest.raises(StageFailed, match="the worker of a: has no memory") as failed:
        worker.part.allocate_state({})
    assert failed.value.place == "a"
    worker.end.send(Message("refused", {"error": "InputError", "message": "weight 'w' is absent"}))
    with pytest.raises(InputError, match="the worker of a: weight 'w' is absent"):
        worker.part.load_weights(None)  # type: ignore[arg-type]


def test_places_that_are_no_workers_are_in_the_engine_and_get_one_message() -> None:
    both = segment(3, "a", {"v": "c"}, ("v", "w"), {"b": ("v",), "c": ("v",), ENGINE: ("v", "w")})
    assert described([both], frozenset({"a", "b"})) == (
        (3, {"b": ("v",), ENGINE: ("v", "w")}, "segment 3", {"v": "c"}),
    )


def test_an_order_arrives_as_it_was_given() -> None:
    message = Message("open", msgspec.to_builtins(ORDER))
    assert msgspec.convert(dict(message.fields), WorkOrder) == ORDER


def load_two_workers(directory: Path, cache: Path) -> LoadedModel:
    plan = plan_text(Stage(0, 1, ("cpu",)), Stage(1, 2, ("cpu#1",)))
    return load_under(directory, cache, plan, num_sequences=4)


def test_a_killed_worker_is_named_within_a_step(
    checkpoint: Checkpoint, program_cache: Path
) -> None:
    # Other tests of this process may keep a server.
    others = workers_of(os.getpid())
    loaded = load_two_workers(checkpoint("llama"), program_cache)
    try:
        children = workers_of(os.getpid()) - others
        assert len(children) == 2
        os.kill(max(children), signal.SIGKILL)
        with pytest.raises(
            StageFailed, match=r"the worker of cpu(#1)? is gone .*start the engine"
        ) as gone:
            greedy_tokens(loaded, 2, 4)
        assert gone.value.place in {"cpu", "cpu#1"}
    finally:
        loaded.close()
    assert not children & workers_of(os.getpid())


def test_a_worker_that_no_longer_answers_is_not_waited_for() -> None:
    for breaks in (False, True):
        worker = Worker()
        if breaks:
            worker.end.close()
            with pytest.raises(StageFailed, match="the worker of a is gone"):
                worker.part.allocate_state({})
        worker.close()
        assert worker.seen_off == [not breaks]


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
