"""Steps under way as the engine finds them, beside every fixed number of them.

    python -m benchmarks.pipeline_depth [--shape small|attention] [--rounds 3]

Two workers, each with one thread on one core. `small`: two stages of a model so small that a second
step under way costs more than it saves. `attention`: attention and cache apart, so that with one
step a worker always waits. Arms take turns on one engine model: 1, 2 and 4 steps under way, and
`found`, which goes on with what it knows from round to round; medians are printed, and what share
of the best fixed number the last rounds of `found` reach.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

from banyan.engine.scheduling.pipeline_depth import FixedDepth, PipelineDepth
from banyan.engine.starting.load_choice import choose_depth
from banyan.engine.starting.loading import LoadedModel
from banyan.planner.plan import Stage
from benchmarks.shaped_model import ModelSize, write_model
from benchmarks.staged_serving import Together, engine_of, opened, plan_text, serve

FOUND = "found"
CORES = {"cpu": 0, "cpu#1": 1}


def _size(hidden: int) -> ModelSize:
    heads = hidden // 128
    return ModelSize(
        layers=2,
        hidden=hidden,
        intermediate=256,
        heads=heads,
        kv_heads=heads,
        head_dim=128,
        vocab=1024,
    )


# Size, plan, answers and tokens of each.
SHAPES = {
    "small": (_size(128), plan_text(Stage(0, 1, ("cpu",)), Stage(1, 2, ("cpu#1",))), 8, 400),
    "attention": (_size(1024), plan_text(Stage(0, 2, ("cpu",), attention=("cpu#1",))), 256, 160),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    size, plan, batch, answer = SHAPES[asked.shape]
    os.sched_setaffinity(0, {0})
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), size)
        with opened(model, plan, seats=batch, length=answer + 16, cores=CORES) as loaded:
            depths: Mapping[str, PipelineDepth] = {
                **{str(fixed): FixedDepth(fixed) for fixed in (1, 2, 4)},
                FOUND: choose_depth(loaded.executable),
            }
            rounds = [
                {name: _served(loaded, depth, batch, answer) for name, depth in depths.items()}
                for _ in range(asked.rounds)
            ]
    _report(rounds)


def _served(loaded: LoadedModel, depth: PipelineDepth, batch: int, answer: int) -> float:
    """Tokens per second."""
    budget = 8 * batch
    engine = engine_of(loaded, loaded.executable, seats=batch, budget=budget, depth=depth)
    whole = batch * answer
    served = serve(engine, Together(batch, answer), answer=answer, most_tokens=whole)
    engine.close()
    found = served.tokens_per_second(whole // 8, whole)
    print(f"{found:8.0f} tokens/s with {depth.current} under way at the end", flush=True)
    return found


def _report(rounds: list[dict[str, float]]) -> None:
    medians = {
        name: statistics.median(round_[name] for round_ in rounds)
        for name in rounds[0]
        if name != FOUND
    }
    best = max(medians, key=medians.__getitem__)
    for name, speed in medians.items():
        print(f"{name:6} under way {speed:8.0f} tokens/s")
    # It learns in the first round; what it knows then is what a server goes on with.
    share = statistics.median(round_[FOUND] / round_[best] for round_ in rounds[1:] or rounds)
    print(f"found: {share:.2f} of {best} under way, after the first round")


if __name__ == "__main__":
    main()
