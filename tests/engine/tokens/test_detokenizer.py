"""Text comes out in whole characters and stops where it was told to."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE

from banyan.engine.fake import FakeTokenizer
from banyan.engine.tokens.detokenizer import IncrementalDetokenizer, StopStringFinder, TextStream


class SentencePieceLike:
    """Spaces as a mark that is lost at the start, rare characters as byte tokens, as in Llama 2."""

    words = ("<s>", "\u2581Hello", "\u2581world", "!", "<0xE4>", "<0xBD>", "<0xA0>", "<0xFF>", "a")

    def __init__(self) -> None:
        vocabulary = {word: number for number, word in enumerate(self.words)}
        self._tokenizer = Tokenizer(BPE(vocabulary, [], byte_fallback=True))
        self._tokenizer.add_special_tokens(["<s>"])
        self._tokenizer.decoder = decoders.Sequence(
            [
                decoders.Replace("\u2581", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens)
        return text


def pieces(detokenizer: IncrementalDetokenizer, token_ids: Sequence[int]) -> list[str]:
    return [detokenizer.push(token_id) for token_id in token_ids]


def test_a_chinese_character_comes_out_with_its_last_byte() -> None:
    detokenizer = IncrementalDetokenizer(FakeTokenizer())
    assert pieces(detokenizer, "a你b".encode()) == ["a", "", "", "你", "b"]
    assert detokenizer.flush() == ""


def test_an_emoji_of_four_bytes_comes_out_whole() -> None:
    detokenizer = IncrementalDetokenizer(FakeTokenizer())
    assert pieces(detokenizer, "\N{DEER}".encode()) == ["", "", "", "\N{DEER}"]


def test_bytes_that_never_become_a_character_come_out_when_the_next_one_is_clear() -> None:
    detokenizer = IncrementalDetokenizer(FakeTokenizer())
    assert pieces(detokenizer, [0xFF, ord("a")]) == ["", "\ufffda"]


def test_a_broken_end_comes_out_at_the_end() -> None:
    detokenizer = IncrementalDetokenizer(FakeTokenizer())
    assert pieces(detokenizer, [ord("a"), 0xE4]) == ["a", ""]
    assert detokenizer.flush() == "\ufffd"


def test_endless_broken_bytes_are_not_held_for_ever() -> None:
    detokenizer = IncrementalDetokenizer(FakeTokenizer())
    assert "".join(pieces(detokenizer, [0xFF] * 12)) == "\ufffd" * 12


def test_byte_tokens_are_put_together_and_the_first_space_follows_the_prompt() -> None:
    detokenizer = IncrementalDetokenizer(SentencePieceLike(), [0, 1])
    assert pieces(detokenizer, [2, 4, 5, 6, 3]) == [" world", "", "", "你", "!"]


def test_without_a_prompt_the_first_space_is_lost_as_the_tokenizer_has_it() -> None:
    assert pieces(IncrementalDetokenizer(SentencePieceLike()), [1, 2]) == ["Hello", " world"]


def test_special_tokens_are_left_out_or_kept() -> None:
    end = FakeTokenizer.end_token_id
    assert pieces(IncrementalDetokenizer(FakeTokenizer()), [97, end, 98]) == ["a", "", "b"]
    keeping = IncrementalDetokenizer(FakeTokenizer(), skip_special_tokens=False)
    assert pieces(keeping, [97, end]) == ["a", "<end>"]


@given(st.text(max_size=40), st.text(max_size=5))
def test_the_pieces_of_any_text_add_up_to_it(text: str, prompt: str) -> None:
    detokenizer = IncrementalDetokenizer(FakeTokenizer(), list(prompt.encode()))
    out = pieces(detokenizer, text.encode())
    assert "".join(out) + detokenizer.flush() == text
    if "\ufffd" not in text:
        assert "\ufffd" not in "".join(out)


@pytest.mark.parametrize(
    ("stops", "texts", "expected", "found"),
    [
        (["end"], ["the e", "nd of"], ["the ", ""], "end"),
        (["end"], ["an e", "nvoy"], ["an ", "envoy"], None),
        (["end", "nd"], ["e", "nd"], ["", ""], "end"),
        (["b", "ab"], ["xab"], ["x"], "ab"),
        (["你好"], ["说你", "好吗"], ["说", ""], "你好"),
        (["aab"], ["aa", "a", "b"], ["", "a", ""], "aab"),
        (["\n\n"], ["a\n", "\nb"], ["a", ""], "\n\n"),
        ([], ["a", "b"], ["a", "b"], None),
    ],
)
def test_a_stop_string_is_found_across_pieces_and_its_start_is_held_back(
    stops: list[str], texts: list[str], expected: list[str], found: str | None
) -> None:
    finder = StopStringFinder(stops)
    assert [finder.push(text) for text in texts] == expected
    assert finder.found == found


def test_the_stop_string_itself_is_kept_on_request() -> None:
    finder = StopStringFinder(["end"], include_in_output=True)
    assert finder.push("the ending") == "the end"
    assert finder.push("more") == ""


def test_what_was_held_back_comes_out_at_the_end() -> None:
    finder = StopStringFinder(["end"])
    assert finder.push("an e") == "an "
    assert finder.flush() == "e"


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_pieces_give_the_same_text_as_the_whole(text: str, stops: list[str]) -> None:
    whole = StopStringFinder(stops)
    expected = whole.push(text) + whole.flush()
    piecewise = StopStringFinder(stops)
    out = "".join(piecewise.push(character) for character in text) + piecewise.flush()
    if whole.found is None:
        assert out == expected == text
    else:
        # Letter by letter the stop string that ends first wins; none is ever let out.
        assert piecewise.found is not None
        assert text.startswith(out)
        assert not any(stop in out for stop in stops)


def test_a_stream_without_a_tokenizer_has_no_text() -> None:
    stream = TextStream(None, StopStringFinder([]))
    assert stream.push(5) == ""
    assert stream.finish() == ""


def test_a_stream_passes_stop_strings_while_it_may_not_stop() -> None:
    stream = TextStream(IncrementalDetokenizer(FakeTokenizer()), StopStringFinder(["a"]))
    assert stream.push(ord("a"), may_stop=False) == "a"
    assert stream.push(ord("a")) == ""
    assert stream.found_stop == "a"
    assert stream.finish() == ""


def test_a_stream_ends_with_all_that_was_held_back() -> None:
    stream = TextStream(IncrementalDetokenizer(FakeTokenizer()), StopStringFinder(["xyz"]))
    assert stream.push(ord("x")) == ""
    assert stream.push(0xE4) == ""
    assert stream.finish() == "x\ufffd"
