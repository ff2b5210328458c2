import numpy as np

from banyan.engine.workbench.conformance.decoding import Written, compare_texts


def written(*changes: tuple[int, int]) -> Written:
    """Two texts of three tokens over four words; `changes` are (text, place) with another token."""
    logits = np.zeros((3, 2, 4), np.float32)
    logits[..., 1] = 2.0
    logits[..., 2] = 1.5
    for text, place in changes:
        logits[place, text, 3] = 4.0
    return Written(logits.argmax(-1).T, logits)


def test_equal_texts_pass_and_tell_the_closest_choice() -> None:
    tokens, logits = compare_texts("texts", written(), written())
    assert tokens.passed
    assert tokens.found == "all are equal; the closest choice had a margin of 5.0e-01"
    assert logits.passed


def test_the_first_token_that_differs_is_told() -> None:
    tokens, logits = compare_texts("texts", written((0, 2), (1, 1)), written())
    assert not tokens.passed
    assert tokens.found.startswith("text 1 has token 3 at place 1, the interpreter 1;")
    assert not logits.passed


def test_logits_behind_a_token_that_differs_are_not_compared() -> None:
    wanted, found = written((0, 0)), written()
    for texts in (wanted, found):
        texts.logits[0] = 0.0  # what led to the other token is left out of this test
    found.logits[2] = 100.0
    _, logits = compare_texts("texts", found, wanted)
    assert logits.passed
