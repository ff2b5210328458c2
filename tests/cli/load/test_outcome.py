from xml.etree import ElementTree

import pytest

from banyan.cli.load.outcome import Outcome, percentile, read_goals, summarise
from banyan.cli.load.picture import draw
from banyan.foundation.errors import InputError

QUICK = Outcome(sent=0.0, pieces=(0.1, 0.2, 0.4), num_tokens=3, num_prompt_tokens=7)
SLOW = Outcome(sent=1.0, pieces=(0.5, 1.5), num_tokens=2, num_prompt_tokens=5)
LOST = Outcome(sent=1.5, problem="status 503")


def test_times_are_those_that_the_reader_saw() -> None:
    times = QUICK.times()
    assert times["ttft"] == (0.1,)
    assert times["tpot"] == pytest.approx((0.15,))
    assert times["itl"] == pytest.approx((0.1, 0.2))
    assert times["e2el"] == (0.4,)
    assert LOST.times()["ttft"] == ()
    assert Outcome(sent=0.0, pieces=(0.1,), num_tokens=1).times()["tpot"] == ()


def test_a_run_is_summed_up_over_whole_answers_and_others_are_counted() -> None:
    summary = summarise([QUICK, SLOW, LOST], {"ttft": 200, "tpot": 500})
    assert (summary.num_asked, summary.num_whole, summary.num_good) == (3, 2, 1)
    assert summary.problems == {"status 503": 1}
    assert summary.seconds == 2.5
    assert (summary.prompt_tokens, summary.answer_tokens) == (12, 5)
    assert summary.tokens_per_second == 2.0
    assert summary.goodput == 0.4
    assert summary.milliseconds["ttft"] == {"mean": 300, "p50": 100, "p95": 500, "p99": 500}
    assert summary.plain()["goodput"] == 0.4


def test_a_run_without_an_answer_has_no_times_and_divides_by_nothing() -> None:
    summary = summarise([LOST], {})
    assert summary.milliseconds == {}
    assert summary.goodput == summary.tokens_per_second == 0.0
    assert "status 503" not in draw("none", summary, [LOST])


def test_a_percentile_is_a_value_that_occurred() -> None:
    row = [float(n) for n in range(1, 101)]
    assert [percentile(row, share) for share in (50, 95, 99)] == [50, 95, 99]
    assert percentile([3.0], 50) == 3.0


def test_goals_are_read_by_measure() -> None:
    assert read_goals(["ttft:500", "tpot:50"]) == {"ttft": 500, "tpot": 50}
    with pytest.raises(InputError, match="'ttft' cannot be read"):
        read_goals(["ttft"])
    with pytest.raises(InputError, match="no measure 'speed'; goals are for ttft, tpot"):
        summarise([], {"speed": 1})


def test_the_picture_is_whole_and_says_what_was_measured() -> None:
    summary = summarise([QUICK, SLOW], {"ttft": 200})
    drawn = draw("a <model>", summary, [QUICK, SLOW])
    texts = [node.text for node in ElementTree.fromstring(drawn).iter() if node.text]
    assert "a <model>" in texts
    assert any("2 of 2 answered" in text and "goodput 0.40" in text for text in texts)
    assert any("p99 500 ms" in text for text in texts)
