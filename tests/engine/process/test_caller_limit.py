import pytest

from banyan.engine.process.caller_limit import CallerLimit
from banyan.foundation.errors import Overloaded


def test_one_caller_may_have_so_many_requests_and_others_are_not_counted_with_it() -> None:
    limit = CallerLimit(2)
    with limit.counted("a"), limit.counted("b"):
        with limit.counted("a"):
            with (
                pytest.raises(Overloaded, match="caller 'a' has 2 requests") as caught,
                limit.counted("a"),
            ):
                pass
            assert caught.value.retry_after_seconds == 1.0
        with limit.counted("a"):
            pass


def test_no_limit_counts_nobody_out() -> None:
    limit = CallerLimit(0)
    with limit.counted(""), limit.counted(""), limit.counted(""):
        pass
