"""Every feature of the engine works under every plan: tokens of cut models are those of whole ones.

Most places are interpreters: what is cut, sent and written is the same on every device, and nothing
is compiled for it. The wide tests have compiled parts and workers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from banyan.engine.options import EngineOptions
from banyan.engine.request_context import RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speculation_options import SpeculationOptions
from banyan.engine.starting.loading import LoadedModel
from banyan.foundation.errors import InputError
from banyan.models.loading import open_model
from banyan.planner.plan import Stage
from tests.conftest import Checkpoint
from tests.engine.stages.plans import load_under, plan_text
from tests.models.adapters.files import make_adapter
from tests.models.checkpoints import VOCAB_SIZE
from tests.models.heads.files import write_eagle, write_medusa
from tests.models.quantisation.packers import FORMATS, write_pair

GREEDY = SamplingOptions(temperature=0.0, max_tokens=8, ignore_eos=True)
WHOLE = (Stage(0, 2, ("a",)),)
TWO_STAGES = (Stage(0, 1, ("a",)), Stage(1, 2, ("b",)))
LAYOUTS = {
    "two stages": TWO_STAGES,
    "attention apart": (Stage(0, 2, ("a",), attention=("b",)),),
    "tensors in two": (Stage(0, 2, ("a", "b")),),
    "attention on two": (Stage(0, 2, ("a",), attention=("b", "c")),),
    "tensors in two, attention on one": (Stage(0, 2, ("a", "b"), attention=("c",)),),
    "tensors in two, attention on two others": (Stage(0, 2, ("a", "b"), attention=("c", "d")),),
    "tensors in two beside one": (Stage(0, 1, ("a", "b")), Stage(1, 2, ("c",))),
}
MIXTURE_LAYOUTS = {
    "experts on two": (Stage(0, 3, ("a",), experts=("b", "c")),),
    "tensors in two, experts on one": (Stage(0, 3, ("a", "b"), experts=("c",)),),
    "tensors in two, experts on two": (Stage(0, 3, ("a", "b"), experts=("b", "c")),),
}


def interpreted(stages: Sequence[Stage]) -> list[tuple[str, str]]:
    """Where the places of stages are: in this process, without a compiler."""
    places = dict.fromkeys(name for stage in stages for name in stage.all_devices)
    return [(place, "inline:interpreter") for place in places]


def opened(
    directory: Path,
    cache: Path,
    stages: Sequence[Stage],
    options: EngineOptions | None = None,
    workers: Sequence[tuple[str, str]] | None = None,
) -> LoadedModel:
    where = interpreted(stages) if workers is None else workers
    return load_under(directory, cache, plan_text(*stages), workers=where, options=options)


def answers(
    loaded: LoadedModel,
    adapters: Sequence[str | None] = (None,),
    options: SamplingOptions = GREEDY,
) -> Mapping[str, list[int]]:
    """Tokens of three requests, all at once; they take the adapters in turn."""
    generator = np.random.default_rng(11)
    found: dict[str, list[int]] = {}
    try:
        engine = loaded.engine
        for number in range(3):
            prompt = generator.integers(3, VOCAB_SIZE, 3 + 7 * number).tolist()
            chosen = RequestContext(adapter=adapters[number % len(adapters)])
            engine.add_request(str(number), prompt, options, chosen)
        while engine.has_work():
            for event in engine.step():
                found.setdefault(event.request_id, []).extend(event.token_ids)
    finally:
        loaded.close()
    return found


def adapters_for(base: Path, folder: Path) -> tuple[tuple[str, str], ...]:
    """Two that change other layers each, large enough to change tokens."""
    configuration = open_model(str(base)).decoder_configuration()
    chosen = (("q_proj", "v_proj"), ("down_proj", "gate_proj", "o_proj"))
    return tuple(
        (
            f"adapter-{number}",
            str(
                make_adapter(
                    folder / str(number), configuration, modules=modules, seed=number, size=0.2
                )
            ),
        )
        for number, modules in enumerate(chosen)
    )


def test_models_may_be_cut_in_every_way_at_once(
    checkpoint: Checkpoint, program_cache: Path
) -> None:
    for kind, layouts in (("llama", LAYOUTS), ("qwen3_moe", MIXTURE_LAYOUTS)):
        whole = (Stage(0, 3 if kind == "qwen3_moe" else 2, ("a",)),)
        wanted = answers(opened(checkpoint(kind), program_cache, whole))
        for name, stages in layouts.items():
            assert answers(opened(checkpoint(kind), program_cache, stages)) == wanted, name


def test_deferred_experts(checkpoint: Checkpoint, program_cache: Path) -> None:
    base, later = checkpoint("deepseek_v3"), EngineOptions(deferred_experts=1)
    whole = (Stage(0, 3, ("a",)),)
    wanted = answers(opened(base, program_cache, whole, later))
    assert wanted != answers(opened(base, program_cache, whole))
    assert answers(opened(base, program_cache, MIXTURE_LAYOUTS["experts on two"], later)) == wanted


def test_adapters(checkpoint: Checkpoint, program_cache: Path, tmp_path: Path) -> None:
    base = checkpoint("llama")
    modules = adapters_for(base, tmp_path)
    options = EngineOptions(lora_modules=modules, max_loras=2)
    names = [None, *(name for name, _ in modules)]
    plain = answers(opened(base, program_cache, WHOLE))
    wanted = answers(opened(base, program_cache, WHOLE, options), names)
    assert wanted["0"] == plain["0"]
    assert all(wanted[number] != plain[number] for number in ("1", "2"))
    for name, stages in LAYOUTS.items():
        assert answers(opened(base, program_cache, stages, options), names) == wanted, name


def test_adapters_that_take_turns_in_one_slot(
    checkpoint: Checkpoint, program_cache: Path, tmp_path: Path
) -> None:
    base = checkpoint("llama")
    modules = adapters_for(base, tmp_path)
    names = [name for name, _ in modules]
    wide = EngineOptions(lora_modules=modules, max_loras=2)
    narrow = replace(wide, max_loras=1)
    wanted = answers(opened(base, program_cache, WHOLE, wide), names)
    for stages in (TWO_STAGES, LAYOUTS["tensors in two"]):
        assert answers(opened(base, program_cache, stages, narrow), names) == wanted


@pytest.mark.parametrize("quantization", ["int8", "int4", "fp8"])
def test_rounded_weights(quantization: str, checkpoint: Checkpoint, program_cache: Path) -> None:
    # Rounded inputs ("int8") are rounded by each device for itself, and differ a little.
    options = EngineOptions(quantization=quantization, activation="plain")
    wanted = answers(opened(checkpoint("llama"), program_cache, WHOLE, options))
    for name, stages in LAYOUTS.items():
        found = answers(opened(checkpoint("llama"), program_cache, stages, options))
        assert found == wanted, name


@pytest.mark.parametrize("name", ["awq", "gptq-ordered", "packed-zeros", "fp8-channel"])
def test_checkpoints_that_come_quantised(
    name: str, checkpoint: Checkpoint, program_cache: Path, tmp_path: Path
) -> None:
    form = next(form for form in FORMATS if form.name == name)
    directory, _ = write_pair(checkpoint("llama"), tmp_path, form)
    wanted = answers(opened(directory, program_cache, WHOLE))
    for stages in (TWO_STAGES, LAYOUTS["tensors in two"]):
        assert answers(opened(directory, program_cache, stages)) == wanted


def test_blocks_of_scales_that_devices_would_have_to_share_are_refused(
    checkpoint: Checkpoint, program_cache: Path, tmp_path: Path
) -> None:
    form = next(form for form in FORMATS if form.name == "fp8-blocks")
    directory, _ = write_pair(checkpoint("llama"), tmp_path, form)
    with pytest.raises(InputError, match="has 3 groups that share a scale, which 2 devices cannot"):
        opened(directory, program_cache, LAYOUTS["tensors in two"])


@pytest.mark.parametrize(
    "options",
    [
        EngineOptions(speculation=SpeculationOptions(method="ngram", num_speculative_tokens=3)),
        EngineOptions(enable_prefix_caching=False),
    ],
    ids=["guesses from the prompt", "without a prefix cache"],
)
def test_choices_that_keep_tokens(
    options: EngineOptions, checkpoint: Checkpoint, program_cache: Path
) -> None:
    wanted = answers(opened(checkpoint("llama"), program_cache, WHOLE))
    assert answers(opened(checkpoint("llama"), program_cache, TWO_STAGES, options)) == wanted


@pytest.mark.parametrize(
    "method",
    [
        "draft_model",
        pytest.param("eagle", marks=pytest.mark.wide),
        pytest.param("medusa", marks=pytest.mark.wide),
    ],
)
def test_what_guesses_runs_beside_the_engine(
    method: Literal["draft_model", "eagle", "medusa"],
    checkpoint: Checkpoint,
    program_cache: Path,
    tmp_path: Path,
) -> None:
    base = checkpoint("llama")
    if method == "eagle":
        write_eagle(tmp_path, base)
    elif method == "medusa":
        # Heads that are not sure guess nothing, and are then asked seldom.
        write_medusa(tmp_path, hidden_size=64, vocab_size=VOCAB_SIZE, boldness=1.0)
    model = str(base if method == "draft_model" else tmp_path)
    speculation = SpeculationOptions(method=method, model=model, num_speculative_tokens=2)
    options = EngineOptions(speculation=speculation)
    wanted = answers(opened(base, program_cache, WHOLE))
    loaded = opened(base, program_cache, TWO_STAGES, options)
    assert answers(loaded) == wanted
    assert loaded.engine.statistics().tokens_drafted > 0


@pytest.mark.wide
@pytest.mark.timeout(900)
def test_compiled_parts_and_workers(
    checkpoint: Checkpoint, program_cache: Path, tmp_path: Path
) -> None:
    base = checkpoint("llama")
    modules = adapters_for(base, tmp_path)
    options = EngineOptions(lora_modules=modules, max_loras=1)
    names = [None, *(name for name, _ in modules)]
    wanted = answers(opened(base, program_cache, WHOLE, options, [("a", "inline:cpu")]), names)
    for kind in ("inline", "process"):
        for stages in (TWO_STAGES, LAYOUTS["tensors in two"], LAYOUTS["attention on two"]):
            workers = [(place, f"{kind}:cpu") for place, _ in interpreted(stages)]
            found = answers(opened(base, program_cache, stages, options, workers), names)
            assert found == wanted, (kind, stages)


@pytest.mark.wide
@pytest.mark.timeout(900)
@pytest.mark.parametrize("quantization", ["int8", "int4", "fp8"])
def test_rounded_weights_in_compiled_parts(
    quantization: str, checkpoint: Checkpoint, program_cache: Path
) -> None:
    options = EngineOptions(quantization=quantization, activation="plain")
    base = checkpoint("llama")
    wanted = answers(opened(base, program_cache, WHOLE, options, [("a", "inline:cpu")]))
    for stages in (TWO_STAGES, LAYOUTS["tensors in two"]):
        workers = [(place, "inline:cpu") for place, _ in interpreted(stages)]
        assert answers(opened(base, program_cache, stages, options, workers)) == wanted
