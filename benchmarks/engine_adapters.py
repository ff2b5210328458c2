"""What many adapters in one batch cost: steps of two engines, with slots and without, in turn.

Both serve the same model and the same prompts; one has an adapter for each sequence, made up here
(normal numbers). A round times one decoding step of each; only ratios of medians of one run count.

Run: python benchmarks/engine_adapters.py MODEL [--batch 32] [--rank 8] [--modules all]
    [--quantization int8] [--lora-dtype int8]
"""

import argparse
import os
import statistics
import time
from collections.abc import Collection, Sequence

import numpy as np

from banyan.engine.adapters.memory import DecoderAdapterMemory
from banyan.engine.adapters.opening import adapter_room
from banyan.engine.engine import Engine
from banyan.engine.options import EngineOptions
from banyan.engine.request_context import RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.engine.starting.loading import LoadedModel, load_model
from banyan.foundation.settings import load_settings
from banyan.models.adapters.reading import Adapter, LowRankPair
from banyan.models.adapters.targets import known_targets
from banyan.models.configuration import ModelConfiguration

MODULES = {
    "all": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "qv": ("q_proj", "v_proj"),
}
ENDLESS = SamplingOptions(temperature=0.0, ignore_eos=True)


def made_up_adapter(
    model: ModelConfiguration, rank: int, modules: Collection[str], seed: int
) -> Adapter:
    """An adapter of small normal numbers."""
    generator = np.random.default_rng(seed)
    pairs = {}
    for place, target in known_targets(model).items():
        if target.module in modules:
            down = generator.normal(0, 0.02, (rank, target.inputs)).astype(np.float32)
            up = generator.normal(0, 0.02, (target.outputs, rank)).astype(np.float32)
            pairs[place] = LowRankPair(down, up)
    return Adapter("made up", "", pairs)


def open_engine(arguments: argparse.Namespace, *, enable_lora: bool) -> LoadedModel:
    """Load the model with room for the adapters, or without."""
    options = options_of(arguments, enable_lora=enable_lora)
    return load_model(arguments.model, options, settings=load_settings(os.environ))


def options_of(arguments: argparse.Namespace, *, enable_lora: bool) -> EngineOptions:
    """What the engine is started with."""
    return EngineOptions(
        dtype=arguments.dtype,
        threads=arguments.threads,
        max_model_len=arguments.context + 8 * arguments.rounds + 64,
        max_num_seqs=arguments.batch,
        max_num_batched_tokens=1024,
        quantization=arguments.quantization,
        enable_prefix_caching=False,
        enable_lora=enable_lora,
        max_loras=arguments.batch,
        max_lora_rank=arguments.rank,
        lora_dtype=arguments.lora_dtype,
    )


def add_adapters(loaded: LoadedModel, arguments: argparse.Namespace) -> None:
    """Load as many adapters as there are sequences."""
    engine, model = loaded.engine, loaded.directory.decoder_configuration()
    assert engine.adapters is not None
    options = options_of(arguments, enable_lora=True)
    room = adapter_room(options, model, arguments.dtype, free_bytes=1 << 62)
    assert room is not None
    memory = DecoderAdapterMemory(room, loaded.executable)
    modules = MODULES[arguments.modules]
    for number in range(arguments.batch):
        adapter = made_up_adapter(model, arguments.rank, modules, number)
        engine.adapters.add(f"adapter-{number}", "made up", memory.lay_out(adapter))


def begin(engine: Engine, names: Sequence[str | None], context: int) -> None:
    """Fill the batch and compute all prompts."""
    for number, name in enumerate(names):
        prompt = [10 + (number + i) % 200 for i in range(context)]
        engine.add_request(str(number), prompt, ENDLESS, RequestContext(adapter=name))
    begun: set[str] = set()
    while len(begun) < len(names):
        begun |= {event.request_id for event in engine.step()}


def end(engine: Engine, batch: int) -> None:
    """Take everything out again."""
    for number in range(batch):
        engine.cancel(str(number))
    while engine.has_work():
        engine.step()


def timed_step(engine: Engine) -> float:
    """Milliseconds of one step."""
    start = time.perf_counter()
    engine.step()
    return (time.perf_counter() - start) * 1e3


def compare(
    base: Engine, other: Engine, names: Sequence[str | None], *, context: int, rounds: int
) -> tuple[float, float]:
    """Median milliseconds of decoding steps without slots and with, taken in turn."""
    engines = (base, other)
    begin(base, [None] * len(names), context)
    begin(other, names, context)
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        # Who comes first changes, so that neither always finds the other's caches.
        for which in (0, 1) if number % 2 else (1, 0):
            times[which].append(timed_step(engines[which]))
    for engine in engines:
        end(engine, len(names))
    return statistics.median(times[0]), statistics.median(times[1])


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a model directory, for example one of Qwen3-0.6B's shape")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--modules", choices=MODULES, default="all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--quantization", default=None)
    parser.add_argument("--lora-dtype", default="auto")
    parser.add_argument("--cases", type=int, default=3, help="only the last so many rows")
    return parser.parse_args()


def main() -> None:
    """Print a table."""
    arguments = read_arguments()
    base = open_engine(arguments, enable_lora=False)
    other = open_engine(arguments, enable_lora=True)
    add_adapters(other, arguments)
    batch = arguments.batch
    cases: dict[str, list[str | None]] = {
        "no adapter": [None] * batch,
        "one for all": ["adapter-0"] * batch,
        "one for each": [f"adapter-{number}" for number in range(batch)],
    }
    print(f"{batch} sequences, rank {arguments.rank}, layers: {arguments.modules}")
    print(f"{'adapters':14} {'base ms':>9} {'ms':>9} {'cost':>8}", flush=True)
    for name, names in list(cases.items())[-arguments.cases :]:
        plain, adapted = compare(
            base.engine, other.engine, names, context=arguments.context, rounds=arguments.rounds
        )
        cost = 100 * (adapted / plain - 1)
        print(f"{name:14} {plain:9.2f} {adapted:9.2f} {cost:7.1f}%", flush=True)
    base.close()
    other.close()


if __name__ == "__main__":
    main()
