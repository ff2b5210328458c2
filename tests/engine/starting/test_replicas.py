"""Several replicas in one process answer as one does; adapters are in all of them or in none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from banyan.engine.batch_generation import Prompt
from banyan.engine.options import EngineOptions
from banyan.engine.sampling import SamplingOptions
from banyan.engine.starting.replicas import Replicas, load_replicas
from banyan.foundation.errors import BanyanError, InputError
from banyan.foundation.settings import Settings
from banyan.models.loading import open_model
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import print_plan
from tests.conftest import Checkpoint
from tests.models.adapters.files import make_adapter

GREEDY = SamplingOptions(temperature=0.0, max_tokens=5, ignore_eos=True)
PROMPTS = [Prompt([5 + number] * (3 + number)) for number in range(5)]


def loaded(directory: Path, cache: Path, *names: str) -> Replicas:
    replicas = tuple(Replica((Stage(0, 2, (name,)),)) for name in names)
    plan = Plan(model="m", model_fingerprint="", num_layers=2, replicas=replicas)
    options = EngineOptions(
        dtype="float32",
        threads=1,
        max_model_len=64,
        num_blocks=32,
        enable_lora=True,
        plan=print_plan(plan),
        plan_workers=tuple((name, "inline:interpreter") for name in names),
    )
    return load_replicas(str(directory), options, Settings(cache_directory=cache), None)


@pytest.fixture(scope="module")
def two(checkpoint: Checkpoint, program_cache: Path) -> Iterator[Replicas]:
    replicas = loaded(checkpoint("llama"), program_cache, "a", "b")
    yield replicas
    replicas.close()


def test_all_replicas_work_and_answer_as_one_does(
    two: Replicas, checkpoint: Checkpoint, program_cache: Path
) -> None:
    alone = loaded(checkpoint("llama"), program_cache, "a")
    try:
        wanted = alone.run(PROMPTS, [GREEDY] * len(PROMPTS), None)
    finally:
        alone.close()
    found = two.run(PROMPTS, [GREEDY] * len(PROMPTS), None)
    assert [output.token_ids for output in found] == [output.token_ids for output in wanted]
    assert all(model.engine.statistics().num_steps > 0 for model in two.models)
    assert two.report().startswith("replicas       2; of the first:")


def test_an_adapter_is_in_every_replica_or_in_none(
    two: Replicas, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    configuration = open_model(str(checkpoint("llama"))).decoder_configuration()
    path = str(make_adapter(tmp_path, configuration, modules=("q_proj",), seed=1))
    adapters = two.adapters
    assert adapters is not None
    adapters.libraries[1].add("taken", path, adapters.libraries[1].read(path))
    with pytest.raises(InputError, match="taken"):
        adapters.add("taken", path)
    with pytest.raises(BanyanError):
        adapters.libraries[0].remove("taken")
    adapters.add("everywhere", path)
    adapters.remove("everywhere")


def test_replicas_that_share_a_device_are_refused(
    checkpoint: Checkpoint, program_cache: Path
) -> None:
    with pytest.raises(InputError, match="2 replicas use device a; replicas share nothing"):
        loaded(checkpoint("llama"), program_cache, "a", "a")
