"""Structured answers within the engine: compile, mask, and who still waits for a compilation.

Owned by `engine.Engine`, called on its thread; compiling and masking happen in threads of their
own, so that neither a hostile schema nor a long mask makes another answer wait.
"""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.requests.request import SequenceState
from banyan.engine.sampling import SamplingOptions
from banyan.engine.structure.definition import Structure
from banyan.engine.structure.guidance import StructureCompiler
from banyan.engine.structure.masks import NO_MASKS, MaskMaker, RowMasks
from banyan.foundation.errors import RequestError

_IDLE_WAIT_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Compiled:
    """Answers whose structure is ready, or cannot be used: `problem` says why."""

    answers: tuple[Answer, ...]
    problem: str | None


class Structuring:
    """Owns the compiler and the masks of one engine; None as compiler refuses every structure."""

    def __init__(
        self, compiler: StructureCompiler | None, *, vocab_size: int, num_in_flight: int = 1
    ) -> None:
        self._compiler = compiler
        self._masks = MaskMaker(vocab_size, num_in_flight=num_in_flight)
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: dict[Future[None], list[Answer]] = {}

    def prepare(self, options: SamplingOptions) -> None:
        """Compile the structure of a request now, so that it need not wait for it later.

        Raises:
            RequestError: the structure cannot be used; says where it is wrong.
        """
        if options.structure is not None:
            self._required().compile(options.structure)

    def admit(self, answers: Sequence[Answer], structure: Structure) -> bool:
        """Constrain new answers; False when they first have to wait for a compilation.

        Raises:
            RequestError: this model has no tokenizer.
        """
        if self._required().is_compiled(structure):
            self._constrain(answers, structure)
            return True
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="banyan-structures")
        job = self._pool.submit(self._required().compile, structure)
        self._jobs[job] = list(answers)
        return False

    @property
    def is_compiling(self) -> bool:
        """True while somebody waits for a structure."""
        return bool(self._jobs)

    @property
    def num_compiling(self) -> int:
        """Answers that wait for a structure."""
        return sum(map(len, self._jobs.values()))

    def take_ready(self, *, is_idle: bool) -> list[Compiled]:
        """Return whose compilation is done; an idle engine waits for it for a moment."""
        if not self._jobs:
            return []
        seconds = _IDLE_WAIT_SECONDS if is_idle else 0.0
        done = wait(self._jobs, timeout=seconds, return_when=FIRST_COMPLETED).done
        return [self._take(job) for job in list(self._jobs) if job in done]

    def begin_masks(self, answers: Sequence[Answer], drafts: Sequence[Sequence[int]]) -> RowMasks:
        """Start the masks of a step for the answers that get tokens in it."""
        constraints = [answer.sampler.constraint for answer in answers]
        if not any(constraints):
            return NO_MASKS
        return self._masks.begin(constraints, drafts)

    def close(self) -> None:
        """End the threads."""
        self._masks.close()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _take(self, job: "Future[None]") -> Compiled:
        answers = [
            answer for answer in self._jobs.pop(job) if answer.state is SequenceState.WAITING
        ]
        error = job.exception()
        if error is None and answers:
            structure = answers[0].request.options.structure
            assert structure is not None
            self._constrain(answers, structure)
        return Compiled(tuple(answers), None if error is None else str(error))

    def _constrain(self, answers: Sequence[Answer], structure: Structure) -> None:
        for answer in answers:
            request = answer.request
            answer.sampler.constraint = self._required().constraint(
                structure, end_token_ids=request.end_token_ids | request.stop_token_ids
            )

    def _required(self) -> StructureCompiler:
        if self._compiler is None:
            raise RequestError(
                "structured answers need a tokenizer, and this model has none",
                parameter="structure",
            )
        return self._compiler
