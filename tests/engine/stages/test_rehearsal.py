"""A message to oneself arrives as often as it is sent, and nothing of it stays."""

import threading

import pytest

from banyan.engine.stages import rehearsal
from banyan.engine.stages.rehearsal import Rehearsal


def test_a_rehearsal_can_be_held_again_and_again_and_ends_when_it_is_closed() -> None:
    num_threads = threading.active_count()
    held = Rehearsal()
    try:
        # Far more than its memory holds at a time: what was read is given back.
        assert all(held.run() for _ in range(200))
    finally:
        held.close()
    assert not held.run()
    held.close()
    assert threading.active_count() == num_threads


def test_where_nothing_can_be_opened_nothing_is_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(rehearsal, "local_sockets", refuse)
    assert not Rehearsal().run()
