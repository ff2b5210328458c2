"""Prompts on other devices than answers: the same tokens; blocks move when they are read."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from banyan.distributed.channel import Message
from banyan.engine.options import EngineOptions
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speculation_options import SpeculationOptions
from banyan.engine.stages.prompts_apart import PromptsApart
from banyan.engine.stages.remote_part import RemotePart
from banyan.engine.starting.loading import LoadedModel
from banyan.foundation.errors import InputError
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import print_plan
from tests.conftest import Checkpoint
from tests.engine.stages.plans import load_under
from tests.engine.stages.test_staged_program import prompt_step

GREEDY = SamplingOptions(temperature=0.0, max_tokens=20, ignore_eos=True)
FIRST = [5, 9, 200, 31, 7] * 9  # two whole blocks and a begun one


def plan_apart(stages: Sequence[Stage], prefill: Sequence[Stage]) -> str:
    replica = Replica(tuple(stages), prefill=tuple(prefill))
    plan = Plan(model="tiny", model_fingerprint="", num_layers=2, replicas=(replica,))
    return print_plan(plan)


def answer(loaded: LoadedModel, prompt: Sequence[int], name: str = "one") -> list[int]:
    loaded.engine.add_request(name, list(prompt), GREEDY)
    return finish(loaded)[name]


def finish(loaded: LoadedModel) -> dict[str, list[int]]:
    tokens: dict[str, list[int]] = {}
    while loaded.engine.has_work():
        for event in loaded.engine.step():
            tokens.setdefault(event.request_id, []).extend(event.token_ids)
    return tokens


def moved(loaded: LoadedModel) -> int:
    assert isinstance(loaded.executable, PromptsApart)
    return loaded.executable.num_moved


@pytest.fixture(scope="module")
def whole(checkpoint: Checkpoint, program_cache: Path) -> Iterator[LoadedModel]:
    """One device, no plan."""
    loaded = load_under(checkpoint("llama"), program_cache, None)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def apart(checkpoint: Checkpoint, program_cache: Path) -> Iterator[LoadedModel]:
    """Prompts on one device, answers cut between two: blocks of other shapes on each side."""
    plan = plan_apart([Stage(0, 2, ("b", "c"))], [Stage(0, 2, ("a",))])
    workers = [(place, "inline:cpu") for place in "abc"]
    options = EngineOptions(speculation=SpeculationOptions(method="ngram", always=True))
    loaded = load_under(checkpoint("llama"), program_cache, plan, workers=workers, options=options)
    yield loaded
    loaded.close()


def test_a_talk_goes_on_over_blocks_of_both_sides(whole: LoadedModel, apart: LoadedModel) -> None:
    before = moved(apart)
    said = answer(whole, FIRST)
    assert answer(apart, FIRST) == said
    assert moved(apart) - before == 3
    # What was answered lies where answers are; the next prompt is computed where prompts are.
    more = [*FIRST, *said, 77, 78, 79]
    found = apart.engine.statistics().prefix_cache_hits
    assert answer(apart, more, "two") == answer(whole, more, "two")
    assert apart.engine.statistics().prefix_cache_hits - found == 64
    # Two blocks have been there; the two behind come back, and the begun one goes over.
    assert moved(apart) - before == 3 + 2 + 1


def test_prompts_and_answers_share_steps(whole: LoadedModel, apart: LoadedModel) -> None:
    answers = []
    for loaded in (whole, apart):
        for number in range(3):
            loaded.engine.add_request(str(number), [11 + number, *range(20, 60 + number)], GREEDY)
        loaded.engine.step()
        loaded.engine.add_request("late", list(range(30, 190)), GREEDY)
        answers.append(finish(loaded))
    assert answers[0].keys() >= {"0", "1", "2", "late"}
    assert answers[0] == answers[1]


@pytest.fixture(scope="module")
def in_workers(checkpoint: Checkpoint, program_cache: Path) -> Iterator[LoadedModel]:
    """Prompts in one worker, answers in another."""
    plan = plan_apart([Stage(0, 2, ("b",))], [Stage(0, 2, ("a",))])
    workers = [(place, "process:cpu") for place in "ab"]
    loaded = load_under(checkpoint("llama"), program_cache, plan, workers=workers)
    yield loaded
    loaded.close()


def test_blocks_move_in_one_message_over_all_states(
    whole: LoadedModel, in_workers: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, str]] = []
    send = RemotePart._send

    def note(part: RemotePart, message: Message) -> None:
        sent.append((part.place, message.kind))
        send(part, message)

    monkeypatch.setattr(RemotePart, "_send", note)
    before = moved(in_workers)
    assert answer(in_workers, FIRST) == answer(whole, FIRST)
    assert moved(in_workers) - before == 3
    assert [kind for kind in sent if kind[1] != "step"] == [("a", "read"), ("b", "write")]
    assert sent.count(("a", "step")) == 1
    assert sent.count(("b", "step")) == 19


def test_steps_of_both_sides_are_under_way_at_once(in_workers: LoadedModel) -> None:
    assert in_workers.executable.num_in_flight == 2
    arguments = [prompt_step(200 + number, 5 + number) for number in range(4)]
    alone = [dict(in_workers.executable.run(one)) for one in arguments]
    begun = [in_workers.executable.begin(one) for one in arguments]
    for one, run in zip(alone, begun, strict=True):
        assert np.array_equal(one["logits"], run.finish()["logits"])


def test_a_worker_that_listens_serves_one_of_the_two(
    checkpoint: Checkpoint, program_cache: Path
) -> None:
    plan = plan_apart([Stage(0, 2, ("a",))], [Stage(0, 2, ("a",))])
    with pytest.raises(InputError, match="a computes prompts and answers, and one worker"):
        load_under(checkpoint("llama"), program_cache, plan, workers=[("a", "tcp://h:1")])
