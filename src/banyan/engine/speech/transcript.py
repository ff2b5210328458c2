"""What is asked about a sound and what comes back. Frozen data only; imports no NumPy."""

import math
from dataclasses import dataclass
from typing import Literal

from banyan.foundation.errors import RequestError

MAX_PROMPT_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionOptions:
    """Options of one sound; a wrong value raises `RequestError` naming field, value and limit.

    Attributes:
        task: write down the language spoken, or translate it into English.
        language: a code such as "en"; None listens for it.
        prompt: what was said before, or words to expect.
        temperature: 0 takes the likeliest token; None does too, but tries higher ones where the
            result looks wrong.
        timestamps: give times of segments; long sounds have them in any case.
        seed: makes a temperature above 0 reproducible.
    """

    task: Literal["transcribe", "translate"] = "transcribe"
    language: str | None = None
    prompt: str = ""
    temperature: float | None = None
    timestamps: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        value = self.temperature
        if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
            raise RequestError(
                f"temperature={value} cannot be used; give a number from 0 to 1",
                parameter="temperature",
            )
        if len(self.prompt) > MAX_PROMPT_CHARACTERS:
            raise RequestError(
                f"prompt has {len(self.prompt)} characters; at most {MAX_PROMPT_CHARACTERS} are "
                "allowed",
                parameter="prompt",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of the transcript; times are seconds from the start of the sound.

    Attributes:
        seek: first frame, of a hundredth of a second, of the window it was heard in.
        average_logprob: natural log probability of its window's tokens, on average.
        compression_ratio: how much shorter its window's text is compressed; high means repetition.
        no_speech_probability: of nobody speaking in its window.
    """

    seek: int
    start: float
    end: float
    text: str
    token_ids: tuple[int, ...]
    temperature: float
    average_logprob: float
    compression_ratio: float
    no_speech_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What was said.

    Attributes:
        language: the code of the language, "" when the model knows one only.
        duration_seconds: of the sound.
        num_prompt_tokens, num_generated_tokens: over all windows.
    """

    text: str
    language: str
    duration_seconds: float
    segments: tuple[Segment, ...]
    num_prompt_tokens: int
    num_generated_tokens: int
