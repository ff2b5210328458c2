"""Goals and workloads as they are written on a command line: "tpot=50ms,ttft=2s". Pure."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from banyan.foundation.errors import InputError
from banyan.planner.quantities import (
    read_bytes,
    read_count,
    read_per_second,
    read_seconds,
    read_share,
    shown,
)
from banyan.planner.training.job import TrainingJob
from banyan.planner.workload import Goal, Workload

Value = TypeVar("Value")

MOST_TOKENS = 10_000_000
"""Of a prompt or an answer."""
MOST_SEQUENCES = 1_000_000
"""Of one step of training."""


def read_goal(text: str) -> Goal:
    """Read "tpot=50ms,ttft=2s": time per output token, time to first token; "" asks nothing.

    Raises:
        InputError: an unknown word, one twice, or no time above 0.
    """
    pairs = _pairs(text, "goal", ("tpot", "ttft"), "tpot=50ms,ttft=2s")
    return Goal(
        time_to_first_token=_optional(pairs, "goal", "ttft", read_seconds),
        time_per_output_token=_optional(pairs, "goal", "tpot", read_seconds),
    )


def read_workload(text: str, goal: Goal | None = None) -> Workload:
    """Read "prompt=512,answer=128,rate=10/s,shared=50%"; rate and shared may be left out.

    Raises:
        InputError: an unknown word, one twice, one missing, or a value out of range.
    """
    example = "prompt=512,answer=128"
    pairs = _pairs(text, "workload", ("prompt", "answer", "rate", "shared"), example)
    for word in ("prompt", "answer"):
        if word not in pairs:
            raise InputError(
                f"the workload {shown(text)} does not say {word!r}; write tokens of both, such as "
                f"{example}"
            )
    shared = _optional(pairs, "workload", "shared", read_share)
    return Workload(
        prompt_tokens=read_count(pairs["prompt"], "workload prompt", most=MOST_TOKENS),
        answer_tokens=read_count(pairs["answer"], "workload answer", most=MOST_TOKENS),
        requests_per_second=_optional(pairs, "workload", "rate", read_per_second),
        goal=goal or Goal(),
        shared_prompt_share=shared or 0.0,
    )


def read_training_job(text: str) -> TrainingJob:
    """Read "batch=512,sequence=4096,state=16,recompute=yes"; the last two may be left out.

    Raises:
        InputError: an unknown word, one twice, one missing, or a value out of range.
    """
    example = "batch=512,sequence=4096"
    pairs = _pairs(text, "training", ("batch", "sequence", "state", "recompute"), example)
    for word in ("batch", "sequence"):
        if word not in pairs:
            raise InputError(
                f"the training {shown(text)} does not say {word!r}; write sequences of a step and "
                f"tokens of a sequence, such as {example}"
            )
    recompute = pairs.get("recompute", "no")
    if recompute not in {"yes", "no"}:
        raise InputError(f"training recompute={shown(recompute)} cannot be used; write yes or no")
    state = _optional(pairs, "training", "state", read_bytes)
    return TrainingJob(
        sequences_per_step=read_count(pairs["batch"], "training batch", most=MOST_SEQUENCES),
        sequence_tokens=read_count(pairs["sequence"], "training sequence", most=MOST_TOKENS),
        state_bytes_per_weight=16.0 if state is None else float(state),
        recompute=recompute == "yes",
    )


def _optional(
    pairs: Mapping[str, str], kind: str, word: str, read: Callable[[object, str], Value]
) -> Value | None:
    return read(pairs[word], f"{kind} {word}") if word in pairs else None


def _pairs(text: str, kind: str, known: tuple[str, ...], example: str) -> dict[str, str]:
    """Split "a=1,b=2" into words and values."""
    pairs: dict[str, str] = {}
    for part in filter(str.strip, text.split(",")):
        word, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or word not in known:
            raise InputError(
                f"the {kind} {shown(text)} has {shown(part.strip())}, which cannot be read; known "
                f"are {', '.join(known)}, such as {example}"
            )
        if word in pairs:
            raise InputError(f"the {kind} {shown(text)} says {word!r} twice; say it once")
        pairs[word] = value
    return pairs
