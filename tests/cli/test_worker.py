"""A worker on another host, as `banyan worker` runs it, over TCP on this one."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from banyan.cli.plan_options import plan_text_of, plan_workers_of
from banyan.cli.worker import open_lending, serve_engines, turning_away_others
from banyan.distributed.channel import Channel
from banyan.distributed.greeting import Identity
from banyan.distributed.local import local_sockets, open_local
from banyan.distributed.opening import Conditions
from banyan.engine.options import EngineOptions
from banyan.engine.stages.meeting import Meeting
from banyan.foundation.errors import BanyanError, InputError, StageFailed
from banyan.foundation.settings import Settings
from banyan.planner.plan import Stage
from tests.conftest import Checkpoint
from tests.engine.stages.plans import greedy_tokens, load_under, plan_text


def test_tokens_over_tcp_are_those_of_one_device_and_another_secret_is_refused(
    checkpoint: Checkpoint, program_cache: Path, tmp_path: Path
) -> None:
    directory = checkpoint("llama")
    secret = tmp_path / "secret"
    lendings = [open_lending("127.0.0.1:0", secret, "cpu") for _ in range(2)]
    settings = Settings(cache_directory=program_cache)
    threads = [
        threading.Thread(target=serve_engines, args=(lending, settings)) for lending in lendings
    ]
    for thread in threads:
        thread.start()
    # The two that listen hand values to each other, and to the engine's own process.
    plan = plan_text(Stage(0, 1, ("there",)), Stage(1, 2, ("far",), attention=("here",)))
    workers = [
        ("here", "inline:cpu"),
        *(
            (place, f"tcp://127.0.0.1:{lending.listener.port}")
            for place, lending in zip(("there", "far"), lendings, strict=True)
        ),
    ]
    try:
        alone = load_under(directory, program_cache, None)
        wanted = greedy_tokens(alone, 4, 8)
        alone.close()
        options = EngineOptions(plan_secret=str(secret))
        loaded = load_under(directory, program_cache, plan, workers=workers, options=options)
        assert greedy_tokens(loaded, 4, 8) == wanted
        loaded.close()
        other = tmp_path / "other"
        other.touch(mode=0o600)
        other.write_text("another-secret-of-enough-letters")
        options = EngineOptions(plan_secret=str(other))
        with pytest.raises(BanyanError, match="secret"):
            load_under(directory, program_cache, plan, workers=workers, options=options)
        with pytest.raises(InputError, match="workers of other hosts share a secret; give"):
            load_under(directory, program_cache, plan, workers=workers)
        gone = [*workers[:1], ("there", "tcp://127.0.0.1:1"), *workers[2:]]
        options = EngineOptions(plan_secret=str(secret))
        with pytest.raises(StageFailed, match="the worker of there cannot be used: No wo") as lost:
            load_under(directory, program_cache, plan, workers=gone, options=options)
        assert lost.value.place == "there"
    finally:
        for lending in lendings:
            lending.listener.close()
        for thread in threads:
            thread.join(timeout=20)
    assert not any(thread.is_alive() for thread in threads)


def test_others_are_refused_while_an_engine_is_there_and_not_behind_one_that_hung_up() -> None:
    asked: list[str] = []

    class Refusing(Meeting):
        def turn_away(self, seconds: float, reason: str) -> None:
            asked.append(reason)

    ours, theirs = channel_pair()
    meeting = Refusing(Conditions(Identity("b")))
    with closing(ours), turning_away_others(meeting, ours, patience_seconds=0.02):
        with closing(theirs):
            while not asked:
                time.sleep(0.01)
        assert re.search("it works for the engine.*; stop that one, or", asked[0])
        time.sleep(0.05)
        asked.clear()
        time.sleep(0.1)
        assert not asked


def channel_pair() -> tuple[Channel, Channel]:
    """The worker's end and the engine's."""
    one, other = local_sockets()
    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(open_local, other, Conditions(Identity("the engine")))
        return open_local(one, Conditions(Identity("the worker"))), theirs.result()


def test_the_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    open_lending("127.0.0.1:0", secret, "cpu").listener.close()
    text = secret.read_text()
    open_lending("127.0.0.1:0", secret, "cpu").listener.close()
    assert secret.read_text() == text
    assert secret.stat().st_mode & 0o777 == 0o600


def test_addresses_and_workers_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'4711' is not HOST:PORT"):
        open_lending("4711", tmp_path / "secret", "cpu")
    with pytest.raises(InputError, match="'a' is not NAME=PLACE"):
        plan_workers_of(["a"])
    with pytest.raises(InputError, match="names 'a' twice"):
        plan_workers_of(["a=inline:cpu", "a=inline:cpu"])
    with pytest.raises(InputError, match="cannot be read"):
        plan_text_of(tmp_path / "none.toml")
    assert plan_workers_of(["a=tcp://h:1"]) == (("a", "tcp://h:1"),)
