"""Transcripts as subtitles: SubRip (`srt`) and WebVTT (`vtt`). Pure."""

from collections.abc import Sequence

from banyan.engine.speech.transcript import Segment


def as_srt(segments: Sequence[Segment]) -> str:
    """Write numbered pieces with times such as 00:00:01,500."""
    pieces = (
        f"{number}\n{clock(one.start, ',')} --> {clock(one.end, ',')}\n{_words(one)}\n\n"
        for number, one in enumerate(segments, start=1)
    )
    return "".join(pieces)


def as_vtt(segments: Sequence[Segment]) -> str:
    """Write pieces with times such as 00:00:01.500."""
    pieces = (
        f"{clock(one.start, '.')} --> {clock(one.end, '.')}\n{_words(one)}\n\n" for one in segments
    )
    return "WEBVTT\n\n" + "".join(pieces)


def clock(seconds: float, mark: str) -> str:
    """Write seconds as hours, minutes, seconds and, behind `mark`, milliseconds."""
    milliseconds = round(seconds * 1000)
    whole, milliseconds = divmod(milliseconds, 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{whole:02}{mark}{milliseconds:03}"


def _words(segment: Segment) -> str:
    # An arrow or an empty line in the text would end the piece.
    return " ".join(segment.text.replace("-->", "->").split())
