"""Prompts of many requests that wait for one pooling model, and the rows they become.

Owns who is served next: a step takes one prompt of each request in turn until its tokens are
spent, so that small requests pass large ones and share batches with them. Called by the engine
process between two of its commands.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from banyan.engine.options import QueuePolicy
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.pooling.runner import PoolingRunner, check_prompt
from banyan.engine.requests.reception import Refusal
from banyan.engine.requests.step_failures import StepFailures
from banyan.engine.scheduling.waiting_bound import WaitingBound
from banyan.foundation.errors import RequestError

# A step: enough to keep every core busy, little enough that others soon have their turn.
TOKENS_PER_STEP = 4096

# Programs are made for at most so many sequences at once; more would not be faster.
PROMPTS_PER_STEP = 256

# Most that wait when the operator says nothing: about 150 MB.
MOST_WAITING_TOKENS = 2**22


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

    @property
    def num_tokens(self) -> int:
        return sum(len(prompt.token_ids) for prompt in self.prompts)


class PoolingQueue:
    """Serves pooling requests step by step; not thread-safe."""

    def __init__(
        self,
        runner: PoolingRunner,
        *,
        tokens_per_step: int = TOKENS_PER_STEP,
        policy: QueuePolicy | None = None,
    ) -> None:
        """Serve `runner`; a step takes more than `tokens_per_step` only for one long prompt."""
        policy = policy or QueuePolicy()
        self._bound = WaitingBound(
            max_requests=policy.max_waiting_requests,
            max_size=policy.max_waiting_tokens or MOST_WAITING_TOKENS,
            what="tokens",
        )
        self._failures = StepFailures()
        self._num_tokens = 0
        self._runner = runner
        self._tokens_per_step = tokens_per_step
        self._jobs: dict[str, _Job] = {}

    def add_request(self, request_id: str, prompts: Sequence[PoolingPrompt]) -> None:
        """Queue a request; its rows come out of `step` together.

        Raises:
            RequestError: a prompt cannot be served; nothing is queued then.
            Overloaded: too much waits already.
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
        job = _Job(tuple(prompts))
        self._bound.check(len(self._jobs), self._num_tokens, size=job.num_tokens)
        self._jobs[request_id] = job
        self._num_tokens += job.num_tokens

    def cancel(self, request_id: str) -> None:
        """Forget a request; unknown ids are ignored."""
        job = self._jobs.pop(request_id, None)
        if job is not None:
            self._num_tokens -= job.num_tokens

    def has_work(self) -> bool:
        """Say whether a step would do anything."""
        return bool(self._jobs)

    def step(self) -> list[PooledRows]:
        """Run the model once and return the requests that are complete now."""
        chosen = self._take_in_turn()
        if chosen:
            began = time.monotonic()
            self._run(chosen)
            size = sum(len(prompt.token_ids) for prompt in self._prompts(chosen))
            self._bound.note_step(size, time.monotonic() - began)
        complete = [name for name, job in self._jobs.items() if len(job.rows) == len(job.prompts)]
        return [self._finish(name) for name in complete]

    def take_refusals(self) -> list[Refusal]:
        """Return, once, the requests that could not be computed."""
        return self._failures.take()

    def _run(self, chosen: Sequence[tuple[str, int]]) -> None:
        """Compute rows; when that fails, one request after the other, to find who is at fault.

        Raises:
            Exception: the model fails at whatever it is given.
        """
        names = list(dict.fromkeys(name for name, _ in chosen))
        try:
            rows = self._runner.run(self._prompts(chosen))
        except Exception as error:  # whatever the model raises: the failures judge
            if len(names) == 1:
                self.cancel(names[0])
                self._failures.give_up(names[0], error)
                return
            for one in names:
                self._run([choice for choice in chosen if choice[0] == one])
            return
        self._failures.succeed()
        for (name, number), row in zip(chosen, rows, strict=True):
            self._jobs[name].rows[number] = row.astype("<f4").tobytes()

    def _prompts(self, chosen: Sequence[tuple[str, int]]) -> list[PoolingPrompt]:
        return [self._jobs[name].prompts[number] for name, number in chosen if name in self._jobs]

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
        self._num_tokens -= job.num_tokens
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

    def take_refusals(self) -> list[Refusal]:
        """Do nothing: all are refused at once."""
        return []
