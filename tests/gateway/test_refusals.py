"""Requests that come at a bad time: the status, when to come back, and the reason."""

import pytest

from banyan.foundation.errors import BanyanError, DeadlineMissed, Overloaded
from tests.gateway.scripted import ScriptedBackend, chat_body, post

PATH = "/v1/chat/completions"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("error", "status", "retry_after", "kind", "code"),
    [
        (
            Overloaded("the queue is full", retry_after_seconds=7),
            503,
            "7",
            "server_error",
            "overloaded",
        ),
        (
            Overloaded("yours are too many", retry_after_seconds=2.2, is_callers_share=True),
            429,
            "3",
            "rate_limit_error",
            "rate_limit_exceeded",
        ),
        (DeadlineMissed("too late"), 504, None, "server_error", "deadline_missed"),
    ],
    ids=["overloaded", "too many of one caller", "deadline"],
)
def test_a_request_that_is_given_up_is_answered_with_status_reason_and_time(
    error: BanyanError, status: int, retry_after: str | None, kind: str, code: str, stream: bool
) -> None:
    backend = ScriptedBackend([], failure=error)
    response = post(PATH, chat_body(stream=stream), backend=backend)
    assert response.status_code == status
    assert response.headers.get("retry-after") == retry_after
    body = response.json()["error"]
    assert (body["message"], body["type"], body["code"]) == (str(error), kind, code)
