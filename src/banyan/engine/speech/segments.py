"""Cut the tokens of one window into segments, and say where the next window begins. Pure."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

SECONDS_PER_TIME = 0.02
FRAMES_PER_TIME = 2
FRAMES_PER_SECOND = 100


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of a segment, special ones left out, and its seconds from the window's start."""

    start: float
    end: float
    token_ids: tuple[int, ...]


def cut_window(
    written: Sequence[int], *, first_time: int, num_frames: int
) -> tuple[list[Piece], int]:
    """Give the segments of a window of `num_frames` frames, and how many frames they cover.

    Two times in a row end one segment and begin the next. When speech goes on at the end of the
    window, what follows the last pair is heard again in the next one.
    """
    is_time = [token >= first_time for token in written]
    cuts = [at + 1 for at in range(len(written) - 1) if is_time[at] and is_time[at + 1]]
    ends_closed = is_time[-2:] == [False, True]
    if not cuts:
        return _one_piece(written, first_time, num_frames)
    if ends_closed:
        cuts.append(len(written))
    pieces = []
    last = 0
    for cut in cuts:
        inner = written[last:cut]
        pieces.append(
            Piece(
                _seconds(inner[0] - first_time),
                _seconds(inner[-1] - first_time),
                _words(inner, first_time),
            )
        )
        last = cut
    if ends_closed:
        return pieces, num_frames
    return pieces, max(1, (written[last - 1] - first_time) * FRAMES_PER_TIME)


def _one_piece(written: Sequence[int], first_time: int, num_frames: int) -> tuple[list[Piece], int]:
    seconds = num_frames / FRAMES_PER_SECOND
    times = [token for token in written if token >= first_time]
    start = 0.0
    if times and written[0] >= first_time:
        start = _seconds(times.pop(0) - first_time)
    if times:
        seconds = _seconds(times[-1] - first_time)
    return [Piece(start, max(start, seconds), _words(written, first_time))], num_frames


def _seconds(steps: int) -> float:
    return round(steps * SECONDS_PER_TIME, 2)


def _words(written: Sequence[int], first_time: int) -> tuple[int, ...]:
    return tuple(token for token in written if token < first_time)


def compression_ratio(text: str) -> float:
    """Say how many times shorter a text is compressed; repetition makes it high."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 1.0
