"""The bar on hit rates is the same on every machine, so it is a test."""

import pytest

from benchmarks.engine_prefix_cache import Seen, conversation_hit_rates


def test_the_ideal_counts_every_token_of_the_longest_known_beginning_but_the_last() -> None:
    seen = Seen()
    seen.add([1, 2, 3, 9])
    assert seen.longest([1, 2, 3, 4]) == 3
    assert seen.longest([1, 2, 3]) == 2
    assert seen.longest([2, 3]) == 0
    assert seen.num_tokens == 3


@pytest.mark.wide
def test_fifty_conversations_hit_within_two_percent_of_the_ideal() -> None:
    rates = conversation_hit_rates()
    assert 0.5 < rates.ideal < 1.0
    assert 0.98 * rates.ideal <= rates.found <= rates.ideal
