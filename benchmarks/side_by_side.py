"""Prompts on one core while the other answers, against steps that compute some of both.

    python -m benchmarks.side_by_side MODEL [--rounds 3] [--quantization int8]

A prompt is bound by arithmetic and a step of answers by memory, so the two could share a machine:
one process computes pieces of prompts on half of the cores and another steps 16 answers on the
other half, both at once. Our engine mixes instead: each step computes all answers and a small piece
of a prompt on every core, and reads the weights once for both.

Beside the two, the whole machine does each work alone. The shares that a way gives of both are
added up: 1.1 is a tenth more work than ideal turns would do. The price is the time of a token.

Two processes hold the weights twice; a real engine would share them, and would have to hand the
keys and values of a prompt over, which costs it something here does not show.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from banyan.engine.cache.key_value_blocks import BLOCK_SIZE, blocks_for
from banyan.engine.cache.sequence_table import SequenceTable
from banyan.engine.options import EngineOptions
from banyan.engine.runner import LaneSlice, step_arguments
from banyan.engine.starting.loading import load_model
from banyan.foundation.settings import load_settings

PIECE = 512
MIXED_PIECE = 32
ANSWERS = 16
CONTEXT = 256
Work = Literal["prompts", "answers", "mixed"]
WORKS: tuple[Work, ...] = ("prompts", "answers", "mixed")
SIZES: dict[Work, tuple[int, int]] = {
    "prompts": (PIECE, 0),
    "answers": (0, ANSWERS),
    "mixed": (MIXED_PIECE, ANSWERS),
}
"""Tokens of a prompt and number of answers in one run."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Runs of one kind of work within a window.

    Attributes:
        rate: runs in a second.
        seconds: of the median run.
    """

    rate: float
    seconds: float


def arguments_of(work: Work) -> dict[str, NDArray[Any]]:
    """One run; every sequence has blocks of its own."""
    piece, answers = SIZES[work]
    num_blocks = blocks_for(max(PIECE, CONTEXT + 1))
    table = SequenceTable(answers + 1, num_blocks * BLOCK_SIZE)
    table.blocks_LB[:] = np.arange((answers + 1) * num_blocks).reshape(answers + 1, num_blocks)
    slices = [LaneSlice(lane, CONTEXT, 1, 1) for lane in range(answers)]
    return step_arguments(table, slices + ([LaneSlice(answers, 0, piece, 1)] if piece else []))


def serve_windows(
    orders: Connection, model: str, quantization: str | None, cores: Sequence[int]
) -> None:
    """In a process of its own: load, then measure a window for each order until it is None."""
    os.sched_setaffinity(0, set(cores))
    options = EngineOptions(
        threads=len(cores),
        quantization=quantization,
        max_model_len=2 * PIECE,
        max_num_seqs=ANSWERS + 1,
        max_num_batched_tokens=PIECE,
        num_blocks=(ANSWERS + 1) * blocks_for(2 * PIECE),
    )
    loaded = load_model(model, options, settings=load_settings(os.environ))
    arguments = {work: arguments_of(work) for work in WORKS}
    for each in arguments.values():
        loaded.executable.run(each)
    orders.send("ready")
    while (order := orders.recv()) is not None:
        work, begin, seconds = order
        time.sleep(max(0.0, begin - time.monotonic()))
        orders.send(_measure(loaded.executable, arguments[work], begin + seconds))
    loaded.close()


def _measure(executable: Any, arguments: Mapping[str, NDArray[Any]], end: float) -> Measured:
    times: list[float] = []
    start = before = time.monotonic()
    while not times or before < end:
        executable.run(arguments)
        now = time.monotonic()
        times.append(now - before)
        before = now
    return Measured(len(times) / (before - start), statistics.median(times))


class Process:
    """One measuring process on the given cores."""

    def __init__(
        self, stack: ExitStack, model: str, quantization: str | None, cores: Sequence[int]
    ):
        self._orders, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        process = context.Process(
            target=serve_windows, args=(theirs, model, quantization, cores), daemon=True
        )
        process.start()
        stack.callback(process.join)
        stack.callback(self._orders.send, None)
        assert self._orders.recv() == "ready"

    def begin(self, work: Work, begin: float, seconds: float) -> None:
        self._orders.send((work, begin, seconds))

    def result(self) -> Measured:
        found = self._orders.recv()
        assert isinstance(found, Measured)
        return found


def compare(model: str, quantization: str | None, rounds: int, seconds: float) -> None:
    """Print each round and the medians."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    with ExitStack() as stack:
        whole, left, right = (
            Process(stack, model, quantization, part)
            for part in (cores, cores[:half], cores[half:])
        )
        found: dict[str, list[tuple[float, float]]] = {"side by side": [], "mixed": []}
        for number in range(rounds):
            alone = {work: _window(seconds, (whole, work))[0] for work in ("prompts", "answers")}
            mixed = _window(seconds, (whole, "mixed"))[0]
            prompts, answers = _window(seconds, (left, "prompts"), (right, "answers"))
            one = 1 / alone["prompts"].rate, 1 / alone["answers"].rate
            ways = {
                "side by side": (prompts.rate * one[0], answers.rate * one[1], answers.seconds),
                "mixed": (
                    mixed.rate * one[0] * MIXED_PIECE / PIECE,
                    mixed.rate * one[1],
                    mixed.seconds,
                ),
            }
            for way, (of_prompts, of_answers, wait) in ways.items():
                found[way].append((of_prompts + of_answers, wait))
                print(
                    f"round {number + 1}: {way:12} {of_prompts:.2f} of the prompts and "
                    f"{of_answers:.2f} of the answers; a token takes {wait * 1e3:.1f} ms "
                    f"({alone['answers'].seconds * 1e3:.1f} without prompts)",
                    flush=True,
                )
    for way, pairs in found.items():
        work, wait = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{way}: median {work:.2f}x the work, {wait * 1e3:.1f} ms for a token")


def _window(seconds: float, *tasks: tuple[Process, Work]) -> list[Measured]:
    begin = time.monotonic() + 0.2
    for process, work in tasks:
        process.begin(work, begin, seconds)
    return [process.result() for process, _ in tasks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--quantization", default=None, help="int8, int4 or fp8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each window")
    chosen = parser.parse_args()
    compare(chosen.model, chosen.quantization, chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main()
