"""Rounded keys and values through the whole engine, beside bfloat16's.

Prompts are longer than a step may be, so what was rounded in one step is read in the next; several
are under way together; and what is found in the prefix cache or on disk brings its scales along.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from banyan.engine.events import TokenEvent
from banyan.engine.options import EngineOptions
from banyan.engine.outputs import gather_answer
from banyan.engine.sampling import SamplingOptions
from banyan.engine.starting.loading import LoadedModel, load_model
from banyan.foundation.settings import load_settings

SEEDLING = Path(__file__).parents[3] / "models" / "seedling"
STEP = 67
"""Tokens of a step: no multiple of a block."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far from bfloat16's: log-probabilities of the tokens of a prompt, in nats, on average and
    at worst, and the share of greedy tokens that are the same until the first that is not."""

    average: float
    worst: float
    same_tokens: float


TOLERANCES: Mapping[str, Tolerance] = {
    "int8": Tolerance(average=0.06, worst=0.3, same_tokens=0.9),
    "fp8": Tolerance(average=0.2, worst=1.3, same_tokens=0.7),
    "int4": Tolerance(average=0.5, worst=2.5, same_tokens=0.5),
}
SAME_FORMAT = Tolerance(average=0.02, worst=0.2, same_tokens=0.9)
"""What was rounded already is rounded alike; only the order of sums depends on the step."""

TEXTS = (
    "The capital of France is",
    "A banyan is a fig tree whose branches send roots to the ground. " * 6,
    "Question: how many days are in a week? Answer:",
    "Once upon a time there was a small engine that read long letters. " * 9,
)
READ = SamplingOptions(
    temperature=0.0, max_tokens=12, ignore_eos=True, logprobs=1, prompt_logprobs=1
)
WRITE = replace(READ, prompt_logprobs=None)


@contextmanager
def loaded_with(kv_cache_dtype: str, store: Path | None = None) -> Iterator[LoadedModel]:
    options = EngineOptions(
        kv_cache_dtype=kv_cache_dtype,
        threads=2,
        max_model_len=320,
        max_num_seqs=8,
        max_num_batched_tokens=STEP,
        num_blocks=100,
        prefix_store=None if store is None else str(store),
    )
    loaded = load_model(str(SEEDLING), options, settings=load_settings(os.environ))
    yield loaded
    loaded.close()


def events_of(model: LoadedModel, options: SamplingOptions) -> list[list[TokenEvent]]:
    """Each text begins while those before it are being read or answered."""
    engine = model.engine
    events: dict[str, list[TokenEvent]] = {text: [] for text in TEXTS}
    waiting = list(TEXTS)
    while waiting or engine.has_work():
        if waiting:
            text = waiting.pop(0)
            engine.add_request(text, model.directory.tokenizer.encode(text), options)
        for event in engine.step():
            events[event.request_id].append(event)
    return list(events.values())


def prompt_scores(events: list[list[TokenEvent]]) -> NDArray[np.float64]:
    """Log-probabilities of the tokens of all prompts: the same text whatever the format."""
    return np.array(
        [entry.logprob for first, *_ in events for entry in first.prompt_logprobs or ()]
    )


@pytest.fixture(scope="module")
def wanted() -> Iterator[list[list[TokenEvent]]]:
    with loaded_with("bfloat16") as model:
        yield events_of(model, READ)


# Each format is a program of its own; int4's goes to disk and back as well.
@pytest.mark.parametrize(
    "kv_cache_dtype",
    ["int4", *(pytest.param(name, marks=pytest.mark.wide) for name in ("int8", "fp8"))],
)
def test_a_rounded_cache_answers_nearly_alike_and_is_found_again(
    kv_cache_dtype: str, wanted: list[list[TokenEvent]], tmp_path: Path
) -> None:
    bound = TOLERANCES[kv_cache_dtype]
    store = tmp_path if kv_cache_dtype == "int4" else None
    with loaded_with(kv_cache_dtype, store) as model:
        found = events_of(model, READ)
        again = events_of(model, WRITE)
    difference = np.abs(prompt_scores(found) - prompt_scores(wanted))
    assert 0 < difference.mean() <= bound.average
    assert difference.max() <= bound.worst
    check_answers(found, wanted, bound)
    found_again = [len(first.prompt_logprobs or ()) // 16 * 16 for first, *_ in found]
    assert [first.num_cached_tokens for first, *_ in again] == found_again
    check_answers(again, found, SAME_FORMAT)
    if store is None:
        return
    with loaded_with(kv_cache_dtype, store) as model:
        from_disk = events_of(model, WRITE)
        assert model.engine.statistics().blocks_loaded == sum(found_again) // 16
    assert [first.num_cached_tokens for first, *_ in from_disk] == found_again
    check_answers(from_disk, found, SAME_FORMAT)


def check_answers(
    found: list[list[TokenEvent]], wanted: list[list[TokenEvent]], bound: Tolerance
) -> None:
    """Compare greedy answers token by token, each until the first that is another."""
    differences: list[float] = []
    num_tokens = 0
    for ours, theirs in zip(map(gather_answer, found), map(gather_answer, wanted), strict=True):
        num_tokens += len(theirs.token_ids)
        for left, right in zip(ours.logprobs or (), theirs.logprobs or (), strict=True):
            if left.token_id != right.token_id:
                break
            differences.append(abs(left.logprob - right.logprob))
    assert len(differences) >= bound.same_tokens * num_tokens
    assert np.mean(differences) <= bound.average
    assert max(differences) <= bound.worst
