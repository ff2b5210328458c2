"""Plans of tests, and the tokens a model gives under them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from banyan.engine.options import EngineOptions
from banyan.engine.sampling import SamplingOptions
from banyan.engine.starting.loading import LoadedModel, load_model
from banyan.foundation.settings import Settings
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import print_plan
from tests.models.checkpoints import VOCAB_SIZE


def plan_text(*stages: Stage) -> str:
    """A plan of one replica for no model in particular."""
    layers = stages[-1].end_layer
    return print_plan(
        Plan(model="tiny", model_fingerprint="", num_layers=layers, replicas=(Replica(stages),))
    )


def load_under(
    directory: Path,
    cache: Path,
    plan: str | None,
    *,
    workers: Sequence[tuple[str, str]] = (),
    num_sequences: int = 16,
    options: EngineOptions | None = None,
) -> LoadedModel:
    """A model in float32, each device with one thread."""
    chosen = replace(
        options or EngineOptions(),
        dtype="float32",
        threads=1,
        max_model_len=256,
        max_num_seqs=num_sequences,
        max_num_batched_tokens=64,
        plan=plan,
        plan_workers=tuple(workers),
    )
    return load_model(str(directory), chosen, settings=Settings(cache_directory=cache))


def greedy_tokens(loaded: LoadedModel, num_prompts: int, num_new: int) -> list[list[int]]:
    """Answers to prompts of different lengths, all at once."""
    generator = np.random.default_rng(11)
    engine = loaded.engine
    sampling = SamplingOptions(temperature=0.0, max_tokens=num_new, ignore_eos=True)
    for number in range(num_prompts):
        prompt = generator.integers(3, VOCAB_SIZE, 3 + 5 * number).tolist()
        engine.add_request(str(number), prompt, sampling)
    tokens: dict[str, list[int]] = {}
    while engine.has_work():
        for event in engine.step():
            tokens.setdefault(event.request_id, []).extend(event.token_ids)
    return [tokens[str(number)] for number in range(num_prompts)]
