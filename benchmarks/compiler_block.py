"""One layer of Qwen3-0.6B, 512 tokens in bfloat16: our compiler beside PyTorch's.

    python -m benchmarks.compiler_block [--rounds N] [--openvino PYTHON] [--keep]

The layer is the Transformers library's own module, whole: norms, projections, rotary positions,
causal attention, feed-forward. PyTorch runs it eagerly and through `torch.compile` with
`mode="max-autotune"`; OpenVINO runs it in a process of the interpreter given, which must have it
besides PyTorch and Transformers. Rounds alternate; each gives one ratio, and medians count.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import banyan
from banyan.devices.instruction_sets import detect_instruction_sets
from benchmarks.qwen3_block import TOKENS, WIDTH, block, seconds

HISTORY = Path(__file__).resolve().parent / "history" / "compiler.jsonl"


@contextmanager
def openvino(python: str, threads: int) -> Iterator[Callable[[], float]]:
    """Times one call in OpenVINO, in a process that waits between calls."""
    command = [python, "-m", "benchmarks.openvino_block", "--threads", str(threads)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        asked, answered = process.stdin, process.stdout
        if asked is None or answered is None:
            raise OSError("the process has no pipes")

        def call() -> float:
            print(file=asked, flush=True)
            return float(answered.readline())

        call()  # Converting and compiling would disturb what is measured meanwhile.
        yield call
        asked.close()


def compare(rounds: int, others: dict[str, Callable[[], float]]) -> dict[str, Any]:
    """Quartiles of their time over ours, and our median time."""
    module, hidden = block(), torch.randn(1, TOKENS, WIDTH).to(torch.bfloat16)
    with torch.no_grad():
        ours = banyan.compile(module, (hidden,))
        inductor = torch.compile(module, mode="max-autotune")
        expected = module(hidden).float()
        error = (ours(hidden).float() - expected).abs().max() / expected.abs().max()
        assert error < 0.02, f"error {error}"
        calls: dict[str, Callable[[], float]] = {
            "eager": lambda: seconds(lambda: module(hidden)),
            "inductor": lambda: seconds(lambda: inductor(hidden)),
            **others,
        }
        found: dict[str, Any] = {}
        for name, call in calls.items():
            call()
            pairs = [(seconds(lambda: ours(hidden)), call()) for _ in range(rounds)]
            quartiles = np.quantile([b / a for a, b in pairs], (0.25, 0.5, 0.75)).tolist()
            mine = float(np.median([a for a, _ in pairs]))
            found[name] = {"quartiles": quartiles, "our seconds": mine}
            low, median, high = quartiles
            print(
                f"block {TOKENS} tokens: {median:.2f} x {name} [{low:.2f}..{high:.2f}], "
                f"ours {1e3 * mine:.2f} ms",
                flush=True,
            )
    print(ours.report())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--openvino", metavar="PYTHON", help="an interpreter that has OpenVINO")
    parser.add_argument("--keep", action="store_true", help="add a line to benchmarks/history")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with ExitStack() as stack:
        others = {}
        if options.openvino:
            peer = openvino(options.openvino, options.threads)
            others["openvino"] = stack.enter_context(peer)
        found = compare(options.rounds, others)
    if options.keep:
        record = {
            "benchmark": "block",
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "threads": options.threads,
            "instruction_set": detect_instruction_sets()[0].name,
            "rows": found,
        }
        with HISTORY.open("a") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
