"""What a plan of two stages on one host costs beside the same work without a plan.

One thread for each device. Two questions, each with its own ideal, both on the same cores in the
same run; arms take turns, and medians and the spread of rounds are printed.

One step at a time: a step of two stages does the arithmetic of one device, so the ideal is its
time.

- one: the whole step on one device;
- inline: two stages in this process;
- workers: two stages, each in a worker process (shared memory);
- attention: attention and its cache in another worker than the rest.

Two steps under way (`--under-way`), as the engine runs them: the ideal is two processes on two
cores that each compute whole steps and say nothing to each other, which together give two steps in
the time of one. The halves of a model are never equal (one has the head), so nothing reaches it.

The model is the seedling grown `--grow` times (6 layers, 2048 wide), a checkpoint, or random
weights of a `--shape` WIDTHxLAYERS.

Run: python -m benchmarks.stages [--model DIR] [--grow 8] [--shape 1024x16] [--batch 16]
     [--context 256] [--rounds 5] [--arms one,workers] [--under-way] [--keep]
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.cli.shipped import find_model
from banyan.engine.cache.key_value_blocks import BLOCK_SIZE, blocks_for
from banyan.engine.options import EngineOptions
from banyan.engine.runner import StepModel
from banyan.engine.starting.loading import load_model
from banyan.foundation.settings import load_settings
from banyan.models.loading import open_model
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import print_plan
from benchmarks.grown_seedling import grow
from benchmarks.shaped_model import ModelSize, write_model
from benchmarks.slice import append_record, commit_facts, machine_facts

Arrays = Mapping[str, NDArray[Any]]
Rounds = list[float]
HISTORY = Path(__file__).parent / "history" / "stages.jsonl"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model")
    parser.add_argument("--grow", type=int, default=8)
    parser.add_argument("--shape")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--arms", default="one,inline,workers")
    parser.add_argument("--under-way", action="store_true")
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        model = asked.model or str(_made(Path(folder) / "made", asked))
        layers = open_model(model).decoder_configuration().num_layers
        steps = {
            name: opened.enter_context(closing(_load(model, plan, workers, asked)))
            for name, (plan, workers) in _arms(layers).items()
            if name in asked.arms.split(",")
        }
        programs = {name: loaded.executable for name, loaded in steps.items()}
        _compare_bits(programs, asked)
        found = _measure(programs, asked)
        if asked.under_way:
            found |= _measure_under_way(programs["one"], programs["workers"], model, asked)
        _print(found)
        if asked.keep:
            _keep(found, asked)


def _made(target: Path, asked: argparse.Namespace) -> Path:
    if asked.shape is None:
        return grow(Path(find_model(None)), target, times=asked.grow)
    width, layers = (int(number) for number in asked.shape.split("x"))
    heads = width // 64
    size = ModelSize(
        layers=layers, hidden=width, intermediate=3 * width, heads=heads, kv_heads=heads // 2
    )
    return write_model(target, size)


def _arms(layers: int) -> dict[str, tuple[str | None, tuple[tuple[str, str], ...]]]:
    half = layers // 2
    two = _text(Stage(0, half, ("cpu",)), Stage(half, layers, ("cpu#1",)))
    inline = (("cpu", "inline:cpu"), ("cpu#1", "inline:cpu"))
    apart = _text(Stage(0, layers, ("cpu",), attention=("cpu#1",)))
    return {
        "one": (None, ()),
        "inline": (two, inline),
        "workers": (two, ()),
        "attention": (apart, ()),
    }


def _text(*stages: Stage) -> str:
    return print_plan(
        Plan(
            model="measured",
            model_fingerprint="",
            num_layers=stages[-1].end_layer,
            replicas=(Replica(stages),),
        )
    )


def _load(
    model: str, plan: str | None, workers: tuple[tuple[str, str], ...], asked: argparse.Namespace
) -> Any:
    length = asked.context + 16
    options = EngineOptions(
        threads=1,
        max_model_len=length,
        max_num_seqs=asked.batch,
        num_blocks=blocks_for(length) * asked.batch,
        plan=plan,
        plan_workers=workers,
    )
    return load_model(model, options, settings=load_settings({}))


def _step(asked: argparse.Namespace) -> Arrays:
    """Every sequence of the batch goes on by one token."""
    blocks = blocks_for(asked.context)
    tables = np.arange(asked.batch * blocks, dtype=np.int32).reshape(asked.batch, blocks)
    last = asked.context - 1
    return {
        "token_ids": np.arange(asked.batch, dtype=np.int64) + 7,
        "positions": np.full(asked.batch, last, np.int64),
        "slots": tables[:, last // BLOCK_SIZE].astype(np.int64) * BLOCK_SIZE + last % BLOCK_SIZE,
        "block_tables": tables,
        "query_starts": np.arange(asked.batch + 1, dtype=np.int32),
        "context_lengths": np.full(asked.batch, asked.context, np.int32),
        "logit_rows": np.arange(asked.batch, dtype=np.int64),
    }


def _compare_bits(programs: Mapping[str, StepModel], asked: argparse.Namespace) -> None:
    arrays = _step(asked)
    wanted: NDArray[Any] | None = None
    for name, program in programs.items():
        for _ in range(3):
            logits = np.array(program.run(arrays)["logits"])
        wanted = logits if wanted is None else wanted
        same = "the same bits" if np.array_equal(logits, wanted) else "other bits"
        print(f"{name:10} logits: {same} as the first arm's")


def _measure(programs: Mapping[str, StepModel], asked: argparse.Namespace) -> dict[str, Rounds]:
    """Seconds of a step in each round; an arm has some steps behind each other, as in serving."""
    arrays = _step(asked)
    found: dict[str, Rounds] = {name: [] for name in programs}
    for _ in range(asked.rounds):
        for name, program in programs.items():
            found[name].append(_seconds(program, arrays, asked.steps))
    return found


def _seconds(program: StepModel, arrays: Arrays, num_steps: int) -> float:
    """The median of some steps, the first of which is not counted."""
    program.run(arrays)
    seconds = []
    for _ in range(num_steps):
        began = time.perf_counter()
        program.run(arrays)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _measure_under_way(
    one: StepModel, workers: StepModel, model: str, asked: argparse.Namespace
) -> dict[str, Rounds]:
    """Seconds for each step with two under way: of two whole models apart, and of two stages."""
    arrays = _step(asked)
    found: dict[str, Rounds] = {"two apart": [], "two stages": []}
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    rival = context.Process(target=_rival, args=(theirs, model, asked), daemon=True)
    rival.start()
    ours.recv()
    for _ in range(asked.rounds):
        ours.send(asked.steps)
        both = (_seconds(one, arrays, asked.steps), ours.recv())
        found["two apart"].append(1 / sum(1 / seconds for seconds in both))
        found["two stages"].append(_seconds_under_way(workers, arrays, asked.steps))
    ours.send(0)
    rival.join()
    return found


def _rival(connection: Connection, model: str, asked: argparse.Namespace) -> None:
    """A process that computes whole steps when it is told to."""
    with closing(_load(model, None, (), asked)) as loaded:
        arrays = _step(asked)
        connection.send(None)
        while num_steps := connection.recv():
            connection.send(_seconds(loaded.executable, arrays, num_steps))


def _seconds_under_way(program: StepModel, arrays: Arrays, num_steps: int) -> float:
    """Seconds for each of some steps, two of them under way all the time."""
    first = program.begin(arrays)
    marks = []
    for _ in range(num_steps):
        second = program.begin(arrays)
        first.finish()
        first = second
        marks.append(time.perf_counter())
    first.finish()
    return statistics.median(np.diff(marks))


def _print(found: Mapping[str, Rounds]) -> None:
    for name, rounds in found.items():
        first = found["two apart"] if name.startswith("two") else next(iter(found.values()))
        ratios = [seconds / base for seconds, base in zip(rounds, first, strict=True)]
        ideal = "two apart" if name.startswith("two") else "the first arm"
        print(
            f"{name:10} {1e3 * statistics.median(rounds):8.2f} ms a step, "
            f"{statistics.median(ratios):.3f} of {ideal} [{min(ratios):.3f} .. {max(ratios):.3f}]"
        )


def _keep(found: Mapping[str, Rounds], asked: argparse.Namespace) -> None:
    """Add the run to the history."""
    append_record(
        HISTORY,
        {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            **commit_facts(),
            **machine_facts(),
            "grow": asked.grow,
            "shape": asked.shape,
            "batch": asked.batch,
            "context": asked.context,
            "step_seconds": {name: [round(s, 6) for s in r] for name, r in found.items()},
        },
    )


if __name__ == "__main__":
    main()
