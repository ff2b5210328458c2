from banyan.engine.speech.segments import Piece, compression_ratio, cut_window

FIRST = 100


def cut(*written: int, num_frames: int = 3000) -> tuple[list[Piece], int]:
    return cut_window(written, first_time=FIRST, num_frames=num_frames)


def test_two_times_in_a_row_end_one_segment_and_begin_the_next() -> None:
    pieces, heard = cut(100, 1, 2, 150, 150, 3, 250)
    assert pieces == [
        Piece(0.0, 1.0, (1, 2)),
        Piece(1.0, 3.0, (3,)),
    ]
    assert heard == 3000, "nothing follows a time that closes the window"


def test_speech_that_goes_on_at_the_end_is_heard_again() -> None:
    pieces, heard = cut(100, 1, 150, 160, 2, 3)
    assert [piece.token_ids for piece in pieces] == [(1,)]
    assert heard == 100, "the window begins again where its last whole segment ended"


def test_two_times_at_the_end_begin_the_next_window_there() -> None:
    pieces, heard = cut(100, 1, 150, 150)
    assert [piece.token_ids for piece in pieces] == [(1,)]
    assert heard == 100


def test_a_window_without_pairs_is_one_segment() -> None:
    assert cut(1, 2, num_frames=250) == ([Piece(0.0, 2.5, (1, 2))], 250)
    assert cut(110, 1, 150) == ([Piece(0.2, 1.0, (1,))], 3000)
    assert cut(110, 1) == ([Piece(0.2, 30.0, (1,))], 3000)
    assert cut() == ([Piece(0.0, 30.0, ())], 3000)


def test_a_window_always_moves_on() -> None:
    assert cut(100, 100, 5)[1] == 1


def test_repetition_compresses_well() -> None:
    assert compression_ratio("and " * 100) > 10
    assert compression_ratio("What is a banyan?") < 1.0
    assert compression_ratio("") == 1.0
