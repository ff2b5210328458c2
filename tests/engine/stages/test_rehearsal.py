"""A message to oneself arrives as often as it is sent, and nothing of it stays."""

import threading

from banyan.engine.stages.rehearsal import Rehearsal


def test_a_rehearsal_can_be_held_again_and_again_and_ends_when_it_is_closed() -> None:
    num_threads = threading.active_count()
    rehearsal = Rehearsal()
    try:
        # Far more than its memory holds at a time: what was read is given back.
        assert all(rehearsal.run() for _ in range(200))
    finally:
        rehearsal.close()
    assert not rehearsal.run()
    rehearsal.close()
    assert threading.active_count() == num_threads
