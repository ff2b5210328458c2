import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from numpy.typing import NDArray

from banyan.engine.fake import fake_engine
from banyan.engine.options import EngineOptions
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.pooling.queue import PoolingQueue
from banyan.engine.process.building import SayProgress, Served
from banyan.engine.process.loop import EXIT_BROKEN, EXIT_OK, EXIT_REFUSED, serve
from banyan.engine.process.messages import (
    AddRequest,
    CancelRequest,
    EngineSettings,
    Failed,
    Loading,
    Pool,
    Pooled,
    Published,
    Ready,
    Refused,
    Report,
    Start,
    Stop,
    decode_report,
    encode,
)
from banyan.engine.process.status import ModelFacts
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import ModelError, StageFailed

FACTS = ModelFacts("decoder", 64)
SETTINGS = EngineSettings(
    model="m", options=EngineOptions(), cache_directory="/none", heartbeat_seconds=0.02
)


class FirstToken:
    """Gives the first token of each prompt as its vector; token 9 breaks it."""

    max_tokens = 4
    vocab_size = 10

    def run(self, prompts: Sequence[PoolingPrompt]) -> NDArray[np.float32]:
        firsts = [prompt.token_ids[0] for prompt in prompts]
        if 9 in firsts:
            raise ValueError("token 9")
        return np.array(firsts, dtype=np.float32).reshape(-1, 1)


def build_fake(settings: EngineSettings, say: SayProgress) -> Served:
    say("Packing", 1, 2)
    return Served(
        fake_engine(max_model_len=4096, num_blocks=512),
        PoolingQueue(FirstToken()),
        FACTS,
        lambda: None,
    )


class Parent:
    """The other end: sends commands, reads reports, holds the pipe that says it is alive."""

    def __init__(self, folder: Path) -> None:
        self.endpoint = f"ipc://{folder / 'engine'}"
        self.context = zmq.Context()
        self.socket: Any = self.context.socket(zmq.PAIR)
        self.socket.setsockopt(zmq.RCVTIMEO, 5000)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(self.endpoint)
        self.alive_fd, self.write_fd = os.pipe()
        self.exit_codes: list[int] = []
        self.thread: threading.Thread | None = None

    def start(self, builder: Callable[[EngineSettings, SayProgress], Served]) -> None:
        def run() -> None:
            self.exit_codes.append(serve(self.endpoint, parent_fd=self.alive_fd, builder=builder))

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def say(self, *commands: Any) -> None:
        for command in commands:
            self.socket.send(command if isinstance(command, bytes) else encode(command))

    def hear(self, kind: type[Any]) -> Any:
        """Return the next report of a kind, passing over others."""
        while True:
            report: Report = decode_report(self.socket.recv())
            if isinstance(report, kind):
                return report

    def hear_events(self) -> Published:
        """Return the next report with events in it."""
        while True:
            published: Published = self.hear(Published)
            if published.events:
                return published

    def hear_idle(self) -> Published:
        """Return the next report of an engine without requests."""
        while True:
            published: Published = self.hear(Published)
            if published.statistics.num_running == published.statistics.num_waiting == 0:
                return published

    def exit_code(self) -> int:
        assert self.thread is not None
        self.thread.join(60)
        return self.exit_codes[0]


@pytest.fixture
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parent]:
    parent = Parent(tmp_path_factory.mktemp("e"))
    yield parent
    os.close(parent.write_fd)
    if parent.thread is not None:
        parent.thread.join(60)
    os.close(parent.alive_fd)
    parent.socket.close()
    parent.context.term()


@pytest.fixture
def ready(parent: Parent) -> Parent:
    parent.start(build_fake)
    parent.say(Start(SETTINGS))
    assert parent.hear(Loading) == Loading("Packing", 1, 2)
    assert parent.hear(Ready).model == FACTS
    return parent


def test_a_request_is_served_and_the_process_stops_when_told(ready: Parent) -> None:
    ready.say(AddRequest("a", (1, 2), SamplingOptions(max_tokens=2, temperature=0)))
    published = [ready.hear_events() for _ in range(2)]
    assert [p.events[0].finish_reason for p in published] == [None, "length"]
    ready.say(Stop())
    assert ready.exit_code() == EXIT_OK


def test_an_idle_engine_says_that_it_is_alive(ready: Parent) -> None:
    assert ready.hear(Published).events == ()
    assert ready.hear(Published).events == ()


def test_bad_commands_are_survived(ready: Parent) -> None:
    ready.say(b"\xff\xfe", b"", Start(SETTINGS), CancelRequest("nobody"))
    ready.say(AddRequest("a", (), SamplingOptions(max_tokens=1)))
    refused = ready.hear(Refused)
    assert (refused.request_id, refused.parameter, refused.is_input) == ("a", "prompt", True)
    ready.say(AddRequest("b", (1,), SamplingOptions(max_tokens=1)))
    assert ready.hear_events().events[0].request_id == "b"


def test_a_cancelled_request_frees_its_blocks(ready: Parent) -> None:
    ready.say(AddRequest("a", (1,), SamplingOptions(ignore_eos=True)))
    assert ready.hear_events().statistics.num_running == 1
    ready.say(CancelRequest("a"))
    statistics = ready.hear_idle().statistics
    assert statistics.num_free_blocks == statistics.num_blocks


def test_vectors_are_made_and_a_wrong_prompt_fails_only_its_own_request(ready: Parent) -> None:
    ready.say(Pool("b", (prompt(999),)), Pool("a", (prompt(1, 2), prompt(3))))
    refused = ready.hear(Refused)
    assert (refused.request_id, refused.is_input) == ("b", True)
    assert ready.hear(Pooled) == Pooled("a", (struct.pack("<f", 1), struct.pack("<f", 3)))


def test_a_request_that_breaks_the_pooling_model_ends_alone(ready: Parent) -> None:
    ready.say(Pool("a", (prompt(9),)))
    refused = ready.hear(Refused)
    assert (refused.request_id, refused.is_input) == ("a", False)
    assert refused.message == "the engine failed on this request (ValueError: token 9)"
    ready.say(Pool("b", (prompt(3),)))
    assert ready.hear(Pooled) == Pooled("b", (struct.pack("<f", 3),))


def test_a_pooling_model_that_breaks_at_everything_ends_the_process(ready: Parent) -> None:
    ready.say(*(Pool(str(number), (prompt(9),)) for number in range(8)))
    assert "ValueError: token 9" in ready.hear(Failed).message
    assert ready.exit_code() == EXIT_BROKEN


def prompt(*token_ids: int) -> PoolingPrompt:
    return PoolingPrompt(token_ids)


@pytest.mark.parametrize("is_started", [False, True])
def test_the_process_ends_with_its_parent(parent: Parent, is_started: bool) -> None:
    parent.start(build_fake)
    if is_started:
        parent.say(Start(SETTINGS))
        parent.hear(Ready)
    # What the kernel does when the parent dies.
    os.write(parent.write_fd, b"x")
    assert parent.exit_code() == EXIT_OK


def test_a_model_that_cannot_be_loaded_is_the_callers_fault(parent: Parent) -> None:
    def build(settings: EngineSettings, say: SayProgress) -> Served:
        raise ModelError("no such model")

    parent.start(build)
    parent.say(Start(SETTINGS))
    assert parent.hear(Failed) == Failed("no such model", is_input=True)
    assert parent.exit_code() == EXIT_REFUSED


def test_the_device_that_failed_is_named(parent: Parent) -> None:
    def build(settings: EngineSettings, say: SayProgress) -> Served:
        raise StageFailed("the worker of b is gone", place="b")

    parent.start(build)
    parent.say(Start(SETTINGS))
    assert parent.hear(Failed) == Failed("the worker of b is gone", is_input=False, place="b")


def test_the_first_command_must_be_start(parent: Parent) -> None:
    parent.start(build_fake)
    parent.say(CancelRequest("a"))
    assert "it must be Start" in parent.hear(Failed).message
    assert parent.exit_code() == EXIT_REFUSED


def test_an_engine_that_fails_in_a_step_ends_the_process_with_the_reason(parent: Parent) -> None:
    engine = fake_engine()

    def step() -> list[Any]:
        raise ZeroDivisionError("oh")

    def build(settings: EngineSettings, say: SayProgress) -> Served:
        engine.step = step  # type: ignore[method-assign]
        return Served(engine, PoolingQueue(FirstToken()), FACTS, lambda: None)

    parent.start(build)
    parent.say(Start(SETTINGS))
    failed = parent.hear(Failed)
    assert (failed.message, failed.is_input) == ("the engine failed (ZeroDivisionError: oh)", False)
    assert parent.exit_code() == EXIT_BROKEN
