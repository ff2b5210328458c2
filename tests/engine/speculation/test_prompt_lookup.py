"""Guesses by looking up what followed before, against a search through the whole text."""

from hypothesis import given
from hypothesis import strategies as st

from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.speculation import prompt_lookup
from banyan.engine.speculation.prompt_lookup import PromptLookup
from banyan.engine.speculation.proposer import DraftDemand


def guess(lookup: PromptLookup, tokens: list[int], most: int = 3) -> list[int]:
    return lookup.propose([DraftDemand(SequenceId(1), tokens, most)])[0]


def lookup_of(shortest: int = 2, longest: int = 4) -> PromptLookup:
    return PromptLookup(shortest=shortest, longest=longest)


def test_what_followed_the_same_tokens_is_guessed() -> None:
    assert guess(lookup_of(), [1, 2, 3, 4, 5, 9, 1, 2]) == [3, 4, 5]


def test_without_a_match_of_the_shortest_length_nothing_is_guessed() -> None:
    assert guess(lookup_of(), [1, 2, 3, 4, 5, 9, 7, 2]) == []
    assert guess(lookup_of(), [1]) == []
    assert guess(lookup_of(), []) == []


def test_the_longest_match_wins_over_a_newer_one() -> None:
    assert guess(lookup_of(), [7, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2], most=1) == [3]
    assert guess(lookup_of(), [1, 2, 3, 8, 1, 2, 4, 7, 1, 2], most=1) == [4]


def test_text_that_runs_in_circles_is_guessed_on_and_on() -> None:
    assert guess(lookup_of(), [1, 2, 3, 1, 2, 3, 1, 2], most=7) == [3, 1, 2, 3, 1, 2, 3]
    assert guess(lookup_of(), [5, 5, 5], most=4) == [5, 5, 5, 5]


def test_text_that_grows_by_many_tokens_at_once_is_followed() -> None:
    lookup, tokens = lookup_of(), [1, 2, 3]
    assert guess(lookup, tokens) == []
    tokens += [4, 5, 1, 2]
    assert guess(lookup, tokens) == [3, 4, 5]
    lookup.forget(SequenceId(1))
    assert guess(lookup, [1, 2, 9]) == []


def test_a_very_long_prompt_is_read_little_by_little() -> None:
    lookup = lookup_of()
    tokens = [*range(3 * prompt_lookup.MOST_READ), 0, 1]
    answers = [guess(lookup, tokens, most=2) for _ in range(3)]
    assert answers == [[], [], [2, 3]]


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 3), st.integers(1, 40))
def test_the_guess_is_that_of_a_search_through_the_text(
    tokens: list[int], shortest: int, cut: int
) -> None:
    longest = shortest + 2
    lookup = lookup_of(shortest, longest)
    guess(lookup, tokens[:cut])
    found: list[int] = []
    grown = tokens[:cut]
    lookup = lookup_of(shortest, longest)
    guess(lookup, grown)
    grown += tokens[cut:]
    end = len(tokens)
    # Places as far back as the chain is followed, newest first; the first of the longest wins.
    places = [
        place
        for place in range(end - 1, shortest - 1, -1)
        if tokens[place - shortest : place] == tokens[end - shortest :]
    ][: prompt_lookup.MOST_PLACES]
    best = 0
    for place in places:
        length = max(
            size
            for size in range(min(longest, place) + 1)
            if tokens[place - size : place] == tokens[end - size :]
        )
        if length > best:
            best, found = length, tokens[place : place + 1]
    assert guess(lookup, grown, most=1) == found
