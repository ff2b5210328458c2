"""Answers begin in groups, so that what is cached stays near half of what it could be."""

import pytest

from banyan.engine.engine import Engine
from banyan.engine.fake import fake_engine
from banyan.engine.request_context import RequestContext
from banyan.engine.sampling import SamplingOptions
from tests.engine.test_engine import tokens_alone

SEATS, ANSWER = 16, 64
WRITES = SamplingOptions(temperature=0.0, max_tokens=ANSWER, ignore_eos=True)


def engine_of(num_parts: int | None, num_in_flight: int = 1, num_blocks: int = 128) -> Engine:
    return fake_engine(
        max_model_len=96,
        max_num_seqs=SEATS,
        num_blocks=num_blocks,
        enable_prefix_caching=False,
        num_parts=num_parts,
        num_in_flight=num_in_flight,
    )


def peak_of(engine: Engine, *, num_requests: int = 4 * SEATS) -> int:
    """The most tokens that were cached at once while all were served."""
    for number in range(num_requests):
        engine.add_request(str(number), b"p", WRITES)
    peak = 0
    for _ in range(4000):
        if not engine.has_work():
            assert engine.statistics().num_free_blocks == engine.statistics().num_blocks
            return peak
        engine.step()
        running = engine._seats.running.values()
        # While the line lasts: its end is let in at once.
        if len(engine._reception.line):
            peak = max(peak, sum(answer.num_computed for answer in running))
    raise AssertionError("the engine did not come to an end")


@pytest.mark.parametrize("num_in_flight", [1, 2])
@pytest.mark.parametrize("num_parts", [4, 8, 16])
def test_the_peak_is_that_of_the_closed_form(num_parts: int, num_in_flight: int) -> None:
    together = peak_of(engine_of(None))
    assert together == pytest.approx(SEATS * ANSWER, rel=0.02)
    ratio = peak_of(engine_of(num_parts, num_in_flight)) / together
    assert ratio == pytest.approx((1 + 1 / num_parts) / 2, rel=0.03)


def test_while_there_are_seats_for_all_nobody_waits() -> None:
    engine = engine_of(16)
    for number in range(SEATS):
        engine.add_request(str(number), b"p", WRITES)
    engine.step()
    assert engine.statistics().num_running == SEATS


def test_the_next_group_comes_after_its_share_of_an_answer() -> None:
    engine = engine_of(4)
    for number in range(2 * SEATS):
        engine.add_request(str(number), b"p", WRITES)
    running = []
    for _ in range(49):
        engine.step()
        running.append(engine.statistics().num_running)
    assert running == [4] * 16 + [8] * 16 + [12] * 16 + [16]


def test_no_more_begin_than_the_cache_will_hold() -> None:
    engine = engine_of(1, num_blocks=24)
    peak = peak_of(engine)
    assert engine.statistics().preemptions == 0
    assert peak <= 24 * 16


def test_one_that_had_to_start_again_elsewhere_is_not_held_back() -> None:
    engine = engine_of(16)
    told = tokens_alone(b"p", WRITES)[:3]
    for number in range(2 * SEATS):
        engine.add_request(str(number), b"p", WRITES, told=[told])
    engine.step()
    assert engine.statistics().num_running == SEATS


def test_answers_that_end_early_make_groups_come_sooner() -> None:
    short = SamplingOptions(temperature=0.0, max_tokens=8, ignore_eos=True)
    engine = engine_of(4)
    for number in range(20):
        engine.add_request(str(number), b"p", short)
    for _ in range(40):
        engine.step()
    assert not engine.has_work()


def test_who_is_more_urgent_than_one_that_runs_begins_at_once() -> None:
    engine = engine_of(4)
    for number in range(2 * SEATS):
        engine.add_request(str(number), b"p", WRITES)
    engine.step()
    for number in range(2):
        engine.add_request(f"urgent {number}", b"p", WRITES, RequestContext(priority=-1))
    engine.step()
    running = [answer.request.request_id for answer in engine._seats.running.values()]
    assert running == ["0", "1", "2", "3", "urgent 0", "urgent 1"]


def test_among_equally_urgent_ones_groups_stay() -> None:
    engine = engine_of(4)
    for number in range(2 * SEATS):
        engine.add_request(str(number), b"p", WRITES, RequestContext(priority=-1))
    for _ in range(8):
        engine.step()
    assert engine.statistics().num_running == 4
