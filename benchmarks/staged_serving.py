"""An engine whose model is cut over workers of this host, each on a core of its own.

For benchmarks of plans: opens a model under a plan, pins the workers, and serves answers of given
lengths while it counts what the reader and the cache see.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from banyan.compiler.executable import PendingRun
from banyan.engine.engine import Engine
from banyan.engine.options import EngineLimits, EngineOptions
from banyan.engine.runner import StepModel
from banyan.engine.sampling import SamplingOptions
from banyan.engine.scheduling.pipeline_depth import PipelineDepth
from banyan.engine.starting.loading import LoadedModel, load_model
from banyan.foundation.settings import load_settings
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import print_plan

WORKER = "banyan.engine.starting.stage_worker"
Start = Callable[[int], int]
"""From the number of a step to how many answers begin in it."""


def plan_text(*stages: Stage) -> str:
    """A plan of one replica, for any model of so many layers."""
    num_layers = stages[-1].end_layer
    replicas = (Replica(stages),)
    return print_plan(
        Plan(model="measured", model_fingerprint="", num_layers=num_layers, replicas=replicas)
    )


@contextmanager
def opened(
    model: Path, plan: str | None, *, seats: int, length: int, cores: Mapping[str, int]
) -> Iterator[LoadedModel]:
    """Open a model under a plan, each worker with one thread on the core of its place."""
    options = EngineOptions(
        threads=1,
        max_num_seqs=seats,
        max_model_len=length,
        enable_prefix_caching=False,
        plan=plan,
        plan_workers=tuple((place, "process:cpu") for place in cores),
    )
    with closing(load_model(str(model), options, settings=load_settings(os.environ))) as loaded:
        for place, number in workers().items():
            pin(number, cores[place])
        yield loaded


def workers() -> Mapping[str, int]:
    """Places -> process numbers of the workers that this process started."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        for number in (task / "children").read_text().split():
            words = Path(f"/proc/{number}/cmdline").read_text().split("\0")
            if WORKER in words:
                found[words[words.index(WORKER) + 2]] = int(number)
    return found


def pin(process: int, core: int) -> None:
    """Let all threads of a process run on one core only."""
    for task in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


class InFlight(StepModel):
    """A model with another number of steps under way."""

    def __init__(self, model: StepModel, num_in_flight: int) -> None:
        self._model = model
        self._num_in_flight = num_in_flight

    @property
    def num_in_flight(self) -> int:
        """See `StepModel`."""
        return self._num_in_flight

    def begin(self, arguments: Mapping[str, NDArray[Any]]) -> PendingRun:
        """Start a step."""
        return self._model.begin(arguments)

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Compute a step."""
        return self._model.run(arguments)


def engine_of(
    loaded: LoadedModel,
    model: StepModel,
    *,
    seats: int,
    budget: int = 512,
    depth: PipelineDepth | None = None,
) -> Engine:
    """An engine of its own that shares the model and its cache; gives tokens, no text.

    Without a `depth` as many steps are under way as the model takes.
    """
    limits = EngineLimits(
        max_model_len=loaded.engine.limits.max_model_len,
        max_num_seqs=seats,
        token_budget=budget,
        num_blocks=loaded.engine.limits.num_blocks,
    )
    return Engine(
        model,
        limits,
        vocab_size=loaded.engine.vocab_size,
        enable_prefix_caching=False,
        depth=depth,
    )


@dataclass(slots=True)
class Together:
    """All begin at once; the next when all have ended."""

    batch: int
    answer: int
    next_round: int = 0

    def __call__(self, round_: int) -> int:
        """How many begin."""
        if round_ < self.next_round:
            return 0
        self.next_round += self.answer
        return self.batch


@dataclass(frozen=True, slots=True)
class Served:
    """What came of a run, one entry for each step that gave tokens.

    Attributes:
        seconds: since the run began.
        tokens: written so far.
        cached: tokens in the cache of all answers under way.
        busy: process -> share of the time in which it computed.
    """

    seconds: Sequence[float]
    tokens: Sequence[int]
    cached: Sequence[int]
    busy: Mapping[str, float]

    def tokens_per_second(self, first: int, last: int) -> float:
        """Between two counts of tokens written."""
        begin = next(i for i, tokens in enumerate(self.tokens) if tokens >= first)
        end = next(i for i, tokens in enumerate(self.tokens) if tokens >= last)
        written = self.tokens[end] - self.tokens[begin]
        return written / (self.seconds[end] - self.seconds[begin])


def serve(
    engine: Engine, starts: Start, *, answer: int, most_tokens: int, prompt: int = 1
) -> Served:
    """Serve answers of `answer` tokens to prompts of `prompt`, until so many are written.

    Args:
        engine: idle.
        starts: asked before each step with the number of the round (the tokens that the oldest
            answer has, on from where it began): how many answers begin now.
        answer: tokens of each answer.
        most_tokens: of all answers; those under way then are cancelled.
    """
    options = SamplingOptions(temperature=0.0, max_tokens=answer, ignore_eos=True)
    lengths: dict[str, int] = {}
    begun: dict[str, int] = {}
    number = written = round_ = 0
    seconds, tokens, cached = list[float](), list[int](), list[int]()
    computed = _computed_seconds()
    began = time.perf_counter()
    while written < most_tokens:
        for _ in range(starts(round_)):
            name = str(number)
            engine.add_request(name, [5 + number % 1000] * prompt, options)
            lengths[name], begun[name] = prompt, round_
            number += 1
        events = [event for event in engine.step() if event.token_ids]
        for event in events:
            written += len(event.token_ids)
            lengths[event.request_id] += len(event.token_ids)
            round_ = max(round_, begun[event.request_id] + event.num_generated_tokens)
        if events:
            seconds.append(time.perf_counter() - began)
            tokens.append(written)
            cached.append(sum(lengths.values()))
        for event in events:
            if event.finish_reason is not None:
                del lengths[event.request_id]
    busy = {
        place: (after - computed[place]) / (time.perf_counter() - began)
        for place, after in _computed_seconds().items()
    }
    for name in lengths:
        engine.cancel(name)
    while engine.has_work():
        engine.step()
    return Served(seconds, tokens, cached, busy)


def _computed_seconds() -> Mapping[str, float]:
    """Seconds of a processor that the engine and each worker have taken."""
    ticks = os.sysconf("SC_CLK_TCK")
    found = {"engine": time.process_time()}
    for place, number in workers().items():
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        found[place] = (int(fields[11]) + int(fields[12])) / ticks
    return found
