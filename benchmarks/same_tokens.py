"""Does a model give the same tokens however it is placed? Prints the table of all that was tried.

Tiny checkpoints with random weights, float32, greedy, 16 requests at once of 128 tokens each, whose
prompts have 3 to 78 tokens. (a) is one device without a plan; every other arrangement has to give
each of its tokens. Workers are processes; those of (i) are `banyan worker`s in two network
namespaces, which needs root. OpenCL is whatever `opencl:0` is, PoCL without a GPU.

Run: python -m benchmarks.same_tokens [--kinds llama ...] [--names a b ...] [--report]
"""

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from banyan.foundation.errors import BanyanError
from tests.engine.stages.arrangements import (
    KINDS,
    Arrangement,
    arrangements,
    checkpoint_of,
    environment_of_workers,
    has_namespaces,
    loaded_under,
)
from tests.engine.stages.plans import greedy_tokens
from tests.pocl import prepare_pocl

HISTORY = Path(__file__).resolve().parent / "history" / "same_tokens.jsonl"
NUM_REQUESTS, NUM_TOKENS = 16, 128

Tokens = list[list[int]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one arrangement of one kind of model.

    Attributes:
        result: "same", how many answers are, or why it could not run.
        seconds: of answering, without loading.
    """

    kind: str
    name: str
    title: str
    result: str
    seconds: float


def main() -> None:
    """Try what is asked for, keep it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--names", nargs="+", default=list("abcdefghi"))
    parser.add_argument("--work", type=Path, help="keep checkpoints and programs in this folder")
    parser.add_argument("--history", type=Path, default=HISTORY)
    parser.add_argument("--report", action="store_true", help="print what was kept, try nothing")
    asked = parser.parse_args()
    if not asked.report:
        with _folder(asked.work) as folder:
            os.environ.update(environment_of_workers(folder / "cache"))
            prepare_pocl()
            for kind in asked.kinds:
                for outcome in try_kind(kind, asked.names, folder):
                    print(f"{kind} ({outcome.name}) {outcome.title}: {outcome.result}", flush=True)
                    _keep(asked.history, outcome)
    print(table(_kept(asked.history)))


def try_kind(kind: str, names: Sequence[str], folder: Path) -> Iterator[Outcome]:
    """Compare arrangements of a kind with its first."""
    directory = checkpoint_of(kind, folder)
    first, *others = arrangements(kind)
    wanted, seconds = _tokens(first, directory, folder)
    if first.name in names:
        yield Outcome(kind, first.name, first.title, "same", seconds)
    for each in others:
        if each.name not in names:
            continue
        try:
            found, seconds = _tokens(each, directory, folder)
        except BanyanError as error:
            yield Outcome(kind, each.name, each.title, f"failed: {error}", 0.0)
            continue
        yield Outcome(kind, each.name, each.title, compared(found, wanted), seconds)


def compared(found: Tokens, wanted: Tokens) -> str:
    """What is said of tokens beside those that have to come."""
    if found == wanted:
        return "same"
    num_same = sum(left == right for left, right in zip(found, wanted, strict=True))
    return f"other: {num_same} of {len(wanted)} answers are the same"


def _tokens(arrangement: Arrangement, directory: Path, folder: Path) -> tuple[Tokens, float]:
    if "namespaces" in arrangement.needs and not has_namespaces():
        raise BanyanError("network namespaces are not allowed here")
    with loaded_under(arrangement, directory, folder / "cache", folder) as loaded:
        began = time.perf_counter()
        return greedy_tokens(loaded, NUM_REQUESTS, NUM_TOKENS), time.perf_counter() - began


def table(outcomes: Sequence[Outcome]) -> str:
    """The newest outcome of every arrangement and kind."""
    newest = {(each.name, each.kind): each for each in outcomes}
    titles = {each.name: each.title for each in outcomes}
    lines = ["| | " + " | ".join(KINDS) + " |", "|---|" + "---|" * len(KINDS)]
    for name in sorted(titles):
        cells = [newest[name, kind].result if (name, kind) in newest else "" for kind in KINDS]
        lines.append(f"| ({name}) {titles[name]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@contextlib.contextmanager
def _folder(asked: Path | None) -> Iterator[Path]:
    if asked is not None:
        asked.mkdir(parents=True, exist_ok=True)
        yield asked
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _keep(history: Path, outcome: Outcome) -> None:
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": outcome.kind,
        "name": outcome.name,
        "title": outcome.title,
        "result": outcome.result,
        "seconds": round(outcome.seconds, 2),
        "requests": NUM_REQUESTS,
        "tokens": NUM_TOKENS,
    }
    history.parent.mkdir(parents=True, exist_ok=True)
    with history.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _kept(history: Path) -> list[Outcome]:
    if not history.exists():
        return []
    records = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    return [
        Outcome(each["kind"], each["name"], each["title"], each["result"], each["seconds"])
        for each in records
    ]


if __name__ == "__main__":
    main()
