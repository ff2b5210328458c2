"""Steps over real workers: several at a time, and what remains after a fault."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banyan.compiler.cutting.shards import ShardedGraph
from banyan.compiler.report import CompileReport
from banyan.distributed.channel import Message
from banyan.distributed.in_process import channel_pair
from banyan.engine.cache.key_value_blocks import BLOCK_SIZE
from banyan.engine.stages.part import ENGINE
from banyan.engine.stages.remote_part import RemotePart
from banyan.engine.stages.staged_program import StagedProgram
from banyan.engine.starting.loading import LoadedModel
from banyan.foundation.errors import StageFailed
from banyan.planner.plan import Stage
from tests.conftest import Checkpoint
from tests.engine.stages.plans import load_under, plan_text
from tests.engine.stages.segments import segment, step
from tests.engine.stages.workers import workers_of

Arrays = Mapping[str, Any]
RING = (
    Stage(0, 1, ("cpu",), attention=("cpu#1",)),
    Stage(1, 2, ("cpu#1",), attention=("here",)),
)


def program_of(loaded: LoadedModel) -> StagedProgram:
    assert isinstance(loaded.executable, StagedProgram)
    return loaded.executable


def prompt_step(sequence: int, num_tokens: int) -> dict[str, Any]:
    """The prompt of a sequence that has a block of its own."""
    tokens = np.arange(num_tokens, dtype=np.int64)
    return {
        "token_ids": (7 * sequence + tokens) % 50 + 3,
        "positions": tokens,
        "slots": sequence * BLOCK_SIZE + tokens,
        "block_tables": np.array([[sequence]], np.int32),
        "query_starts": np.array([0, num_tokens], np.int32),
        "context_lengths": np.array([num_tokens], np.int32),
        "logit_rows": np.array([num_tokens - 1], np.int64),
    }


def logits(found: Arrays) -> Any:
    return np.array(found["logits"])


@pytest.fixture(scope="module")
def ring(checkpoint: Checkpoint, program_cache: Path) -> Iterator[LoadedModel]:
    """Two workers and the engine's own process, each of which sends to each other."""
    loaded = load_under(
        checkpoint("llama"), program_cache, plan_text(*RING), workers=[("here", "inline:cpu")]
    )
    yield loaded
    loaded.close()


def test_steps_under_way_together_give_what_each_gives_alone(ring: LoadedModel) -> None:
    program = program_of(ring)
    steps = [prompt_step(sequence, 3 + 2 * sequence) for sequence in range(6)]
    alone = [logits(program.run(step)) for step in steps]
    # No sequence depends on another: more than the engine would begin does no harm.
    begun = [program.begin(step) for step in steps]
    found = [logits(run.finish()) for run in begun]
    assert all(map(np.array_equal, found, alone))
    assert program.num_in_flight == 4
    assert not program._runner.is_waiting
    assert program._runner.results == {}


def test_a_prompt_in_pieces_may_be_under_way_at_once(ring: LoadedModel) -> None:
    """Every segment runs the steps in the order they were begun, so the second piece sees the
    first one's keys."""
    program = program_of(ring)
    whole = prompt_step(2, 9)
    wanted = logits(program.run(whole))
    first = prompt_step(2, 5)
    second: dict[str, Any] = {name: array[5:] for name, array in whole.items()} | {
        "block_tables": whole["block_tables"],
        "query_starts": np.array([0, 4], np.int32),
        "context_lengths": whole["context_lengths"],
        "logit_rows": np.array([3], np.int64),
    }
    for _ in range(5):
        one, two = program.begin(first), program.begin(second)
        one.finish()
        np.testing.assert_allclose(logits(two.finish()), wanted, atol=1e-5)


def test_a_worker_that_is_stopped_is_named_within_two_seconds_and_nothing_runs_after(
    checkpoint: Checkpoint, program_cache: Path
) -> None:
    others = workers_of(os.getpid())
    stages = (Stage(0, 1, ("cpu",)), Stage(1, 2, ("cpu#1",)))
    loaded = load_under(checkpoint("llama"), program_cache, plan_text(*stages))
    try:
        program = program_of(loaded)
        program.run(prompt_step(0, 3))
        (first,) = [
            worker for worker in workers_of(os.getpid()) - others if place_of(worker) == "cpu"
        ]
        os.kill(first, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(StageFailed, match="the worker of cpu is gone") as failed:
            program.run(prompt_step(1, 3))
        assert failed.value.place == "cpu"
        assert time.monotonic() - began < 30  # 2 s of silence; the rest is room for busy machines
        with pytest.raises(StageFailed, match="the worker of cpu is gone"):
            program.run(prompt_step(2, 3))
    finally:
        loaded.close()
    assert not workers_of(os.getpid()) - others


def place_of(worker: int) -> str:
    words = Path(f"/proc/{worker}/cmdline").read_bytes().split(b"\0")
    return words[words.index(b"banyan.engine.starting.stage_worker") + 2].decode()


def test_a_fault_that_is_heard_before_an_answer_ends_the_step_and_is_no_answer() -> None:
    """The worker says it once; whoever finishes the step must not wait for it again."""
    only = segment(0, "a", {}, ("logits",), {ENGINE: ("logits",)})
    ours, theirs = channel_pair("engine", "worker")
    part = RemotePart("a", ours, lambda _: None)
    part.reports = [CompileReport("s", "cpp", "", 0, 0, 0, (), 0, 0, 0, 0.0, False)]
    graph = ShardedGraph(only.segment.graph)
    program = StagedProgram(graph, [only], {"a": part}, num_in_flight=2)
    with closing(theirs), closing(program):
        under_way = program.begin(step(1.0))
        assert theirs.receive(5).kind == "step"
        theirs.send(Message("failed", {"error": "StageFailed", "message": "gave NaN"}))
        theirs.send(Message("done", {"bytes": 7}))
        assert program.step_bytes({}) == 7
        for call in (under_way.finish, lambda: program.begin(step(2.0))):
            with pytest.raises(StageFailed, match="the worker of a: gave NaN") as failed:
                call()
            assert failed.value.place == "a"
