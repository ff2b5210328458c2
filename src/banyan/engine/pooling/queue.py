"""Prompts of many requests that wait for one pooling model, and the rows they become.

Owns who is served next: a step takes one prompt of each request in turn until its tokens are
spent, so that small requests pass large ones and share batches with them. Called by the engine
process between two of its commands.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.pooling.runner import PoolingRunner, check_prompt
from banyan.foundation.errors import RequestError

# A step: enough to keep every core busy, little enough that others soon have their turn.
TOKENS_PER_STEP = 4096

# Programs are made for at most so many sequences at once; more would not be faster.
PROMPTS_PER_STEP = 256


@dataclass(frozen=True, slots=True)
class PooledRows:
    """All rows of one request, each as little-endian float32 bytes, in order of its prompts."""

    request_id: str
    rows: tuple[bytes, ...]


@dataclass(slots=True)
class _Job:
    """A request in the making: prompts not yet computed, and rows that are."""

    prompts: tuple[PoolingPrompt, ...]
    num_taken: int = 0
    rows: dict[int, bytes] = field(default_factory=dict)


class PoolingQueue:
    """Serves pooling requests step by step; not thread-safe."""

    def __init__(self, runner: PoolingRunner, *, tokens_per_step: int = TOKENS_PER_STEP) -> None:
        """Serve `runner`; a step takes more than `tokens_per_step` only for one long prompt."""
        self._runner = runner
        self._tokens_per_step = tokens_per_step
        self._jobs: dict[str, _Job] = {}

    def add_request(self, request_id: str, prompts: Sequence[PoolingPrompt]) -> None:
        """Queue a request; its rows come out of `step` together.

        Raises:
            RequestError: a prompt cannot be served; nothing is queued then.
        """
        if request_id in self._jobs:
            raise RequestError(f"a request {request_id!r} is already being served")
        for number, prompt in enumerate(prompts):
            check_prompt(
                number,
                prompt,
                max_tokens=self._runner.max_tokens,
                vocab_size=self._runner.vocab_size,
            )
        self._jobs[request_id] = _Job(tuple(prompts))

    def cancel(self, request_id: str) -> None:
        """Forget a request; unknown ids are ignored."""
        self._jobs.pop(request_id, None)

    def has_work(self) -> bool:
        """Say whether a step would do anything."""
        return bool(self._jobs)

    def step(self) -> list[PooledRows]:
        """Run the model once and return the requests that are complete now."""
        chosen = self._take_in_turn()
        if chosen:
            rows = self._runner.run([self._jobs[name].prompts[number] for name, number in chosen])
            for (name, number), row in zip(chosen, rows, strict=True):
                self._jobs[name].rows[number] = row.astype("<f4").tobytes()
        complete = [name for name, job in self._jobs.items() if len(job.rows) == len(job.prompts)]
        return [self._finish(name) for name in complete]

    def _take_in_turn(self) -> list[tuple[str, int]]:
        """Choose prompts for a step: (request, number of its prompt)."""
        turns = deque(name for name, job in self._jobs.items() if job.prompts)
        chosen: list[tuple[str, int]] = []
        num_tokens = 0
        while turns and len(chosen) < PROMPTS_PER_STEP:
            name = turns.popleft()
            job = self._jobs[name]
            num_tokens += len(job.prompts[job.num_taken].token_ids)
            if chosen and num_tokens > self._tokens_per_step:
                break
            chosen.append((name, job.num_taken))
            job.num_taken += 1
            if job.num_taken < len(job.prompts):
                turns.append(name)
        # Whoever was served goes behind those that were not.
        for name in dict.fromkeys(name for name, _ in chosen):
            self._jobs[name] = self._jobs.pop(name)
        return chosen

    def _finish(self, request_id: str) -> PooledRows:
        job = self._jobs.pop(request_id)
        return PooledRows(request_id, tuple(job.rows[n] for n in range(len(job.prompts))))


class NoPooling:
    """The queue of a model that writes: it refuses every request with the same sentence."""

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence

    def add_request(self, request_id: str, prompts: Sequence[PoolingPrompt]) -> None:
        """Refuse."""
        raise RequestError(self._sentence, parameter="model")

    def cancel(self, request_id: str) -> None:
        """Do nothing: there are no requests."""

    def has_work(self) -> bool:
        """Return false."""
        return False

    def step(self) -> list[PooledRows]:
        """Do nothing."""
        return []
