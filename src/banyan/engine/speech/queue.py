"""Sounds that wait to be written down, and the windows of many of them in one step.

Each running sound has a lane. A step encodes the windows that begin, at most one, and then computes
one token for every lane, whoever it belongs to. Called by the engine process.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from banyan.engine.requests.reception import Refusal
from banyan.engine.requests.step_failures import StepFailures
from banyan.engine.scheduling.waiting_bound import WaitingBound
from banyan.engine.speech.runner import LaneTokens
from banyan.engine.speech.segments import FRAMES_PER_SECOND, Piece, compression_ratio, cut_window
from banyan.engine.speech.transcript import Segment, Transcript, TranscriptionOptions
from banyan.engine.speech.window import TEMPERATURE_STEP, Window
from banyan.foundation.errors import RequestError
from banyan.models.speech.configuration import SpeechConfiguration, SpeechTokens
from banyan.models.speech.log_mel import SAMPLES_PER_FRAME, SAMPLES_PER_SECOND

Floats = NDArray[np.float32]

# Most sound that waits, decoded: 460 MB. One of the longest allowed fits.
MOST_WAITING_SECONDS = 2 * 3600


class SpeechModel(Protocol):
    """What the queue needs of a model; `runner.SpeechRunner` is one."""

    num_lanes: int
    configuration: SpeechConfiguration

    def hear(self, lane: int, samples: Floats) -> None:
        """Encode one window into a lane."""
        ...

    def step(self, lanes: Sequence[LaneTokens]) -> list[Floats]:
        """Write new tokens; give the wanted logits of each lane."""
        ...


class SpeechTokenizer(Protocol):
    """What is needed of a tokenizer."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Turn text into token ids."""
        ...

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Turn token ids into text."""
        ...


@dataclass(slots=True)
class _Job:
    """One sound: where it stands, and what was written down so far."""

    request_id: str
    samples: Floats
    options: TranscriptionOptions
    timestamps: bool
    language: str | None
    seek: int = 0
    window: Window | None = None
    is_fed: bool = False
    segments: list[Segment] = field(default_factory=list)
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0

    @property
    def num_frames(self) -> int:
        return -(-len(self.samples) // SAMPLES_PER_FRAME)

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLES_PER_SECOND


class TranscriptionQueue:
    """Writes sounds down, step by step; not thread-safe."""

    def __init__(
        self,
        model: SpeechModel,
        tokens: SpeechTokens,
        tokenizer: SpeechTokenizer,
        *,
        read_sound: Callable[[bytes], Floats],
        max_waiting_requests: int | None = None,
        max_waiting_seconds: float = MOST_WAITING_SECONDS,
    ) -> None:
        """Serve `model`; `read_sound` turns a file into samples at 16 kHz, or refuses it."""
        self._bound = WaitingBound(
            max_requests=max_waiting_requests, max_size=max_waiting_seconds, what="seconds"
        )
        self._failures = StepFailures()
        self._model = model
        self._tokens = tokens
        self._tokenizer = tokenizer
        self._read_sound = read_sound
        self._waiting: dict[str, _Job] = {}
        self._lanes: list[_Job | None] = [None] * model.num_lanes
        self._window_frames = 2 * model.configuration.num_frames

    def add_request(self, request_id: str, sound: bytes, options: TranscriptionOptions) -> None:
        """Queue the bytes of a file; its transcript comes out of `step`.

        Raises:
            RequestError: the file or an option cannot be used.
            Overloaded: too much waits already.
        """
        tokens = self._tokens
        known = tokens.languages
        if options.language is not None and known and options.language not in known:
            raise RequestError(
                f"language={options.language!r} is not known to this model; known are "
                f"{', '.join(sorted(known))}",
                parameter="language",
            )
        if options.task == "translate" and tokens.translate is None:
            raise RequestError("this model does not translate", parameter="model")
        waits = sum(job.seconds for job in self._waiting.values())
        self._bound.check(len(self._waiting), waits, size=0.0)  # before the work of reading it
        samples = self._read_sound(sound)
        self._bound.check(len(self._waiting), waits, size=len(samples) / SAMPLES_PER_SECOND)
        language = options.language if tokens.languages else ""
        is_long = len(samples) > self._window_frames * SAMPLES_PER_FRAME
        self._waiting[request_id] = _Job(
            request_id, samples, options, options.timestamps or is_long, language
        )

    def cancel(self, request_id: str) -> None:
        """Forget a request; unknown ids are ignored."""
        self._waiting.pop(request_id, None)
        self._lanes = [
            None if job is not None and job.request_id == request_id else job for job in self._lanes
        ]

    def has_work(self) -> bool:
        """Say whether a step would do anything."""
        return bool(self._waiting) or any(job is not None for job in self._lanes)

    def step(self) -> list[tuple[str, Transcript]]:
        """Compute a token for every lane; gives the transcripts that are complete now."""
        self._fill_lanes()
        began = time.monotonic()
        seconds_heard = 0.0
        done = []
        for lane, job, logits_RV in self._run(self._prepared()):
            seek = job.seek
            try:
                self._advance(job, logits_RV)
            except Exception as error:  # whatever the model raises: the failures judge
                self._give_up(job, error)
                continue
            seconds_heard += (job.seek - seek) / FRAMES_PER_SECOND
            if job.window is None and job.seek >= job.num_frames:
                self._lanes[lane] = None
                done.append((job.request_id, self._transcript(job)))
        self._bound.note_step(seconds_heard, time.monotonic() - began)
        return done

    def take_refusals(self) -> list[Refusal]:
        """Return, once, the requests that could not be computed."""
        return self._failures.take()

    def _prepared(self) -> list[tuple[int, _Job, LaneTokens]]:
        """What the next step computes: of the windows that begin, one."""
        running: list[tuple[int, _Job, LaneTokens]] = []
        heard = False
        for lane, job in enumerate(self._lanes):
            if job is None or (job.window is None and heard):
                continue
            try:
                if job.window is None:
                    heard = True
                    self._hear(lane, job)
                running.append((lane, job, self._new_tokens(lane, job)))
            except Exception as error:  # whatever the model raises: the failures judge
                self._give_up(job, error)
        return running

    def _run(
        self, running: Sequence[tuple[int, _Job, LaneTokens]]
    ) -> list[tuple[int, _Job, Floats]]:
        """Compute logits; when that fails, one lane after the other, to find who is at fault.

        Raises:
            Exception: the model fails at whatever it is given.
        """
        if not running:
            return []
        try:
            found = self._model.step([new for _, _, new in running])
        except Exception as error:  # whatever the model raises: the failures judge
            if len(running) == 1:
                self._give_up(running[0][1], error)
                return []
            # A lane's tokens write the same rows of its cache again.
            return [result for one in running for result in self._run([one])]
        self._failures.succeed()
        return [(lane, job, row) for (lane, job, _), row in zip(running, found, strict=True)]

    def _give_up(self, job: _Job, error: Exception) -> None:
        self.cancel(job.request_id)
        self._failures.give_up(job.request_id, error)

    def _fill_lanes(self) -> None:
        for lane, job in enumerate(self._lanes):
            if job is None and self._waiting:
                name = next(iter(self._waiting))
                self._lanes[lane] = self._waiting.pop(name)

    def _hear(self, lane: int, job: _Job) -> None:
        start = job.seek * SAMPLES_PER_FRAME
        stop = start + self._window_frames * SAMPLES_PER_FRAME
        self._model.hear(lane, job.samples[start:stop])
        generator = np.random.default_rng((job.options.seed, job.seek))
        # Until the language is known, only the start is shown to the model.
        prompt, place = ((self._tokens.start,), 0) if job.language is None else self._prompt(job)
        job.window = Window(
            job.seek,
            min(self._window_frames, job.num_frames - job.seek),
            prompt,
            place,
            job.timestamps,
            job.options.temperature or 0.0,
            generator,
        )
        job.is_fed = False

    def _prompt(self, job: _Job) -> tuple[tuple[int, ...], int]:
        """Give the tokens before the first written one, and the place of the start token."""
        tokens, options = self._tokens, job.options
        told: list[int] = []
        before = [token for segment in job.segments for token in segment.token_ids]
        if options.prompt and not before:
            before = self._tokenizer.encode(" " + options.prompt.strip(), add_special_tokens=False)
        if before and tokens.previous is not None:
            told = [tokens.previous, *before[-(self._model.configuration.max_tokens // 2 - 1) :]]
        begin = [tokens.start]
        if job.language:
            begin.append(tokens.languages[job.language])
        task = tokens.transcribe if options.task == "transcribe" else tokens.translate
        if task is not None:
            begin.append(task)
        if not job.timestamps:
            begin.append(tokens.no_timestamps)
        return (*told, *begin), len(told)

    def _new_tokens(self, lane: int, job: _Job) -> LaneTokens:
        window = job.window
        assert window is not None
        if not job.is_fed:
            job.is_fed = True
            job.num_prompt_tokens += len(window.prompt)
            last = len(window.prompt) - 1
            wanted = (window.start_place, last) if window.start_place < last else (last,)
            return LaneTokens(lane, 0, window.prompt, wanted)
        position = len(window.prompt) + len(window.written) - 1
        return LaneTokens(lane, position, (window.written[-1],), (0,))

    def _advance(self, job: _Job, logits_RV: Floats) -> None:
        window = job.window
        assert window is not None
        if job.language is None:
            known = self._tokens.languages
            job.language = max(known, key=lambda name: float(logits_RV[-1][known[name]]))
            window.prompt, window.start_place = self._prompt(job)
            job.is_fed = False
            return
        max_tokens = self._model.configuration.max_tokens
        if not window.take(logits_RV, self._tokens, max_tokens=max_tokens):
            return
        job.num_generated_tokens += len(window.written)
        text = self._text(window.written)
        if (
            job.options.temperature is None
            and window.temperature < 1.0
            and window.looks_wrong(text)
        ):
            job.window = window.again(round(window.temperature + TEMPERATURE_STEP, 1))
            job.is_fed = False
            return
        self._finish_window(job, window)

    def _finish_window(self, job: _Job, window: Window) -> None:
        job.window = None
        first = self._tokens.first_time
        pieces, num_frames = cut_window(
            window.written, first_time=first, num_frames=window.num_frames
        )
        # Without times the window is one piece and the whole of it was heard.
        job.seek = window.seek + min(num_frames, window.num_frames)
        if not window.is_silent:
            found = (self._segment(window, piece) for piece in pieces)
            job.segments += [segment for segment in found if segment.text.strip()]

    def _segment(self, window: Window, piece: Piece) -> Segment:
        offset = window.seek / FRAMES_PER_SECOND
        text = self._text(piece.token_ids)
        return Segment(
            seek=window.seek,
            start=round(offset + piece.start, 2),
            end=round(offset + piece.end, 2),
            text=text,
            token_ids=piece.token_ids,
            temperature=window.temperature,
            average_logprob=window.average_logprob,
            compression_ratio=compression_ratio(text),
            no_speech_probability=window.no_speech,
        )

    def _text(self, token_ids: Sequence[int]) -> str:
        first = self._tokens.first_time
        return self._tokenizer.decode([token for token in token_ids if token < first])

    def _transcript(self, job: _Job) -> Transcript:
        return Transcript(
            text="".join(segment.text for segment in job.segments).strip(),
            language=job.language or "",
            duration_seconds=job.seconds,
            segments=tuple(job.segments),
            num_prompt_tokens=job.num_prompt_tokens,
            num_generated_tokens=job.num_generated_tokens,
        )
