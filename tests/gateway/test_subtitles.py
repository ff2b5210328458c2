from banyan.engine.speech.transcript import Segment
from banyan.gateway.subtitles import as_srt, as_vtt, clock


def segment(start: float, end: float, text: str) -> Segment:
    return Segment(
        seek=0,
        start=start,
        end=end,
        text=text,
        token_ids=(),
        temperature=0.0,
        average_logprob=0.0,
        compression_ratio=1.0,
        no_speech_probability=0.0,
    )


PIECES = [segment(0.0, 1.5, " Hello\n\nthere"), segment(3661.25, 3662.0, " a --> b")]


def test_subrip_numbers_its_pieces() -> None:
    assert as_srt(PIECES) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello there\n\n"
        "2\n01:01:01,250 --> 01:01:02,000\na -> b\n\n"
    )


def test_webvtt_begins_with_its_name() -> None:
    assert as_vtt(PIECES[:1]) == "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there\n\n"


def test_milliseconds_are_rounded_over_the_minute() -> None:
    assert clock(59.9996, ".") == "00:01:00.000"
