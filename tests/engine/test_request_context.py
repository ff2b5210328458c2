"""The circumstances of a request are checked before it goes anywhere."""

import math
from typing import Any

import pytest

from banyan.engine.request_context import MAX_PRIORITY, RequestContext
from banyan.foundation.errors import RequestError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", MAX_PRIORITY + 1),
        ("priority", -MAX_PRIORITY - 1),
        ("deadline_seconds", 0.0),
        ("deadline_seconds", -1.0),
        ("deadline_seconds", math.inf),
        ("deadline_seconds", math.nan),
        ("caller", "x" * 257),
        ("cache_salt", "x" * 257),
        ("adapter", "x" * 257),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(RequestError) as refusal:
        RequestContext(**{field: value})
    assert refusal.value.parameter == field


def test_values_at_the_limits_are_taken() -> None:
    context = RequestContext(
        priority=-MAX_PRIORITY, deadline_seconds=0.001, caller="x" * 256, adapter=""
    )
    assert context.cache_salt == ""
