"""What is known of requests before any began."""

import math
from array import array

from banyan.planner.simulation.requests import Requests


def test_nothing_is_written_and_no_time_is_known_before_a_request_begins() -> None:
    requests = Requests.of(array("i", [5, 7]), array("i", [2, 3]))
    assert list(requests.written) == list(requests.cached) == list(requests.preempted) == [0, 0]
    assert all(math.isnan(time) for time in (*requests.first_token, *requests.finished))


def test_what_happens_to_one_is_noted_for_that_one_only() -> None:
    requests = Requests.of(array("i", [5, 7]), array("i", [2, 3]))
    requests.first_token[0], requests.written[1] = 1.5, 4
    assert math.isnan(requests.finished[0])
    assert math.isnan(requests.first_token[1])
    assert (list(requests.written), list(requests.cached)) == ([0, 4], [0, 0])
