"""One window of one sound while it is written down: its tokens so far and what may come next.

Holds state and its legal changes; who runs when is decided by `queue`.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from banyan.engine.speech.rules import allowed, choose
from banyan.engine.speech.segments import compression_ratio
from banyan.models.speech.configuration import SpeechTokens

Floats = NDArray[np.float32]

# Where a result looks wrong (Radford et al. 2022, section 4.5).
LEAST_LOGPROB = -1.0
MOST_COMPRESSION = 2.4
NO_SPEECH = 0.6
TEMPERATURE_STEP = 0.2


@dataclass(slots=True)
class Window:
    """Attributes:
    seek: first frame of the sound.
    num_frames: of the sound that are left in it.
    prompt: tokens before the first one that is written.
    start_place: place of the start token in the prompt, where silence is told.
    temperature: of this attempt.
    generator: draws tokens at a temperature above 0.
    """

    seek: int
    num_frames: int
    prompt: tuple[int, ...]
    start_place: int
    timestamps: bool
    temperature: float
    generator: np.random.Generator
    written: list[int] = field(default_factory=list)
    logprob: float = 0.0
    num_chosen: int = 0
    no_speech: float = 0.0

    def take(self, logits_RV: Floats, tokens: SpeechTokens, *, max_tokens: int) -> bool:
        """Choose the next token from the last row; true when the window is written to its end.

        On the first step there is a row for the start token before it.
        """
        if not self.written and len(logits_RV) > 1:
            self.no_speech = _share(logits_RV[0], tokens.no_speech)
        row_V = allowed(logits_RV[-1], self.written, tokens, timestamps=self.timestamps)
        if not np.isfinite(row_V.max()):
            return True
        token, logprob = choose(row_V, temperature=self.temperature, generator=self.generator)
        self.logprob += logprob
        self.num_chosen += 1
        if token == tokens.end:
            return True
        self.written.append(token)
        return len(self.prompt) + len(self.written) >= max_tokens

    @property
    def average_logprob(self) -> float:
        """Mean over the tokens chosen, the end included."""
        return self.logprob / max(1, self.num_chosen)

    def looks_wrong(self, text: str) -> bool:
        """Tell whether another attempt should be made."""
        if self.no_speech > NO_SPEECH and self.average_logprob < LEAST_LOGPROB:
            return False
        return self.average_logprob < LEAST_LOGPROB or compression_ratio(text) > MOST_COMPRESSION

    @property
    def is_silent(self) -> bool:
        """Tell whether probably nobody speaks."""
        return self.no_speech > NO_SPEECH and self.average_logprob < LEAST_LOGPROB

    def again(self, temperature: float) -> "Window":
        """Give the same window, not yet written, at another temperature."""
        return Window(
            self.seek,
            self.num_frames,
            self.prompt,
            self.start_place,
            self.timestamps,
            temperature,
            self.generator,
        )


def _share(logits_V: Floats, token: int | None) -> float:
    if token is None:
        return 0.0
    shifted = logits_V.astype(np.float64) - float(logits_V.max())
    return float(np.exp(shifted[token]) / np.exp(shifted).sum())
