"""The replicas of a plan in one process, each a model with its engine and workers of its own.

Without a plan, and under most, there is one. Called by `LLM`; a server gives each a process
(`engine.process.replicas`).
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from banyan.engine.adapters.library import AdapterLibrary
from banyan.engine.batch_generation import Progress, Prompt, run_prompts
from banyan.engine.options import EngineOptions
from banyan.engine.outputs import RequestOutput
from banyan.engine.replica_options import options_of_replicas, speeds_of_replicas
from banyan.engine.sampling import SamplingOptions
from banyan.engine.starting.loading import LoadedModel, free_memory_bytes, load_model
from banyan.foundation.errors import BanyanError
from banyan.foundation.settings import Settings
from banyan.planner.plan_file import parse_plan


@dataclass(frozen=True, slots=True)
class ReplicaAdapters:
    """The adapters of all replicas, which are the same.

    Attributes:
        libraries: of each replica.
    """

    libraries: tuple[AdapterLibrary, ...]

    def add(self, name: str, path: str) -> None:
        """Load an adapter everywhere, or, when that fails, nowhere.

        Raises:
            InputError: the name is taken.
            ModelError: the adapter cannot be used with this model.
        """
        done: list[AdapterLibrary] = []
        try:
            for library in self.libraries:
                library.check_name(name)
                library.add(name, path, library.read(path))
                done.append(library)
        except BanyanError:
            for library in done:
                library.remove(name)
            raise

    def remove(self, name: str) -> None:
        """Drop an adapter; raises `InputError` when there is none of this name."""
        for library in self.libraries:
            library.remove(name)


@dataclass(frozen=True, slots=True)
class Replicas:
    """Models that are the same, and how fast each is.

    Attributes:
        models: at least one.
        speeds: of the models against each other.
    """

    models: tuple[LoadedModel, ...]
    speeds: tuple[float, ...]

    @property
    def first(self) -> LoadedModel:
        """One of them, for what all have alike."""
        return self.models[0]

    @property
    def adapters(self) -> ReplicaAdapters | None:
        """None where the models have no room for any."""
        found = [model.engine.adapters for model in self.models]
        libraries = tuple(library for library in found if library is not None)
        return ReplicaAdapters(libraries) if libraries else None

    def run(
        self,
        prompts: Sequence[Prompt],
        options: Sequence[SamplingOptions],
        progress: Progress | None,
    ) -> list[RequestOutput]:
        """Answer prompts; see `run_prompts`."""
        engines = [model.engine for model in self.models]
        return run_prompts(engines, prompts, options, speeds=self.speeds, progress=progress)

    def report(self) -> str:
        """What was compiled, a line for each fact."""
        rows = self.first.executable.report.rows()
        if len(self.models) > 1:
            rows = [("replicas", f"{len(self.models)}; of the first:"), *rows]
        return "\n".join(f"{label:14} {text}" for label, text in rows)

    def close(self) -> None:
        """Stop the threads and give the memory back."""
        with ExitStack() as opened:
            for model in self.models:
                opened.enter_context(closing(model))


def load_replicas(
    model: str, options: EngineOptions, settings: Settings, progress: Progress | None
) -> Replicas:
    """Load a model once, or once for each replica of the plan; one after the other.

    Raises:
        ModelError: the model cannot be used.
        InputError: an option cannot be used with this model or on this machine.
        EnvironmentProblem: the machine lacks something.
    """
    each: tuple[EngineOptions, ...] = (options,)
    speeds = [1.0]
    plan = None if options.plan is None else parse_plan(options.plan)
    if plan is not None and len(plan.replicas) > 1:
        each = options_of_replicas(options, plan, free_memory_bytes())
        speeds = speeds_of_replicas(plan)
    models: list[LoadedModel] = []
    with ExitStack() as opened:
        for own in each:
            loaded = load_model(os.fspath(model), own, settings=settings, progress=progress)
            models.append(opened.enter_context(closing(loaded)))
        opened.pop_all()
    return Replicas(tuple(models), tuple(speeds))
