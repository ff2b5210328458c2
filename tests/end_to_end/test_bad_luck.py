"""A clock that jumps, at a real server."""

import time
from pathlib import Path

import pytest

from tests.end_to_end.servers import running_server

pytestmark = pytest.mark.end_to_end

# The machine's time as somebody who sets it a year forth and back at every look.
JUMPING_CLOCK = """
import itertools, time
_real, _count, _year = time.time, itertools.count(), 365 * 86400
time.time = lambda: _real() + _year * (1 - 2 * (next(_count) % 2))
"""


def test_a_clock_that_jumps_by_years_delays_nothing_and_gives_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING_CLOCK, encoding="utf-8")
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2] / 'src'}"}
    options = ["--first-token-goal-ms", "20000", "--max-num-seqs", "1"]
    with running_server("fake", options, environment=environment) as server:
        sdk = server.sdk()
        for _ in range(3):
            pieces = list(
                sdk.completions.create(
                    model="fake",
                    prompt="a",
                    max_tokens=50,
                    stream=True,
                    extra_body={"ignore_eos": True, "deadline_seconds": 30},
                )
            )
            assert pieces[-1].choices[0].finish_reason == "length"
            told = abs(pieces[0].created - time.time())
            assert told > 300 * 86400, "the clock of the server did not jump"
        assert server.running() == 0
