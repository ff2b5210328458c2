"""Requests for the simulator: read from a text, or drawn from a seed.

Arrival in seconds after the start; lengths in tokens.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from banyan.foundation.errors import InputError

_ARRIVAL = ("arrival", "arrival_seconds", "at", "timestamp")
_PROMPT = ("prompt_tokens", "contexttokens", "context_tokens", "input_length", "input_tokens")
_ANSWER = ("answer_tokens", "generatedtokens", "generated_tokens", "output_length", "output_tokens")
_LONGEST = 2**31 - 1
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests in the order of their arrival.

    Attributes:
        arrival: float64 [R] seconds, not falling.
        prompt: int32 [R] tokens, 1 or more.
        answer: int32 [R] tokens, 1 or more.
    """

    arrival: NDArray[np.float64]
    prompt: NDArray[np.int32]
    answer: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def seconds(self) -> float:
        """When the last request arrives."""
        return float(self.arrival[-1]) if len(self) else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Lengths of prompts and answers: log-normal, cut off; a spread of 0 makes all alike.

    Attributes:
        prompt, answer: medians in tokens.
        prompt_spread, answer_spread: standard deviations of the logarithms.
        longest_prompt, longest_answer: tokens.
    """

    prompt: int
    answer: int
    prompt_spread: float = 0.0
    answer_spread: float = 0.0
    longest_prompt: int = 32768
    longest_answer: int = 8192


MIXES: Mapping[str, Lengths] = {
    "chat": Lengths(
        prompt=220, answer=180, prompt_spread=1.1, answer_spread=0.8, longest_prompt=8192
    ),
    "documents": Lengths(prompt=3000, answer=120, prompt_spread=0.8, answer_spread=0.7),
    "code": Lengths(prompt=1500, answer=20, prompt_spread=0.9, answer_spread=0.9),
}
"""Kinds of load to choose from by name. Made up: nobody measured them."""


def made_trace(requests_per_second: float, seconds: float, lengths: Lengths, seed: int) -> Trace:
    """Arrivals of a Poisson process; the same seed gives the same requests.

    Raises:
        InputError: a rate or time that is no number above 0.
    """
    for what, value in (("rate", requests_per_second), ("time", seconds)):
        if not 0 < value < math.inf:
            raise InputError(f"a {what} of {value:g} cannot be simulated; give a number above 0")
    chance = np.random.default_rng(seed)
    # Given how many come, the times of a Poisson process are sorted uniform ones.
    count = int(chance.poisson(requests_per_second * seconds))
    arrival = np.sort(chance.uniform(0.0, seconds, count))
    return Trace(
        arrival,
        _drawn(chance, count, lengths.prompt, lengths.prompt_spread, lengths.longest_prompt),
        _drawn(chance, count, lengths.answer, lengths.answer_spread, lengths.longest_answer),
    )


def parse_trace(text: str) -> Trace:
    """Read requests from JSON Lines or CSV.

    Each has an arrival ("arrival", in seconds, or "timestamp", an ISO time as in the traces of
    Azure), prompt tokens ("prompt_tokens", "ContextTokens", "input_length") and answer tokens
    ("answer_tokens", "GeneratedTokens", "output_length"). They need not be in order; time begins
    with the first timestamp, but at 0 where arrivals are seconds.

    Raises:
        InputError: a line cannot be read; says which.
    """
    rows = _json_rows(text) if text.lstrip().startswith("{") else _csv_rows(text)
    requests = [_request(number, row) for number, row in rows]
    if not requests:
        raise InputError("the trace has no requests; give JSON Lines or CSV with a line for each")
    stamps = [arrival for arrival, _, _ in requests if isinstance(arrival, datetime)]
    if stamps and len(stamps) < len(requests):
        raise InputError(
            "the trace has arrivals in seconds and as times of day; write all of one kind"
        )
    try:
        first = min(stamps, default=None)
        seconds = [
            (a - first).total_seconds() if first and isinstance(a, datetime) else a
            for a, _, _ in requests
        ]
    except TypeError as error:
        raise InputError(
            "the trace has times with and without a time zone; write all of one kind"
        ) from error
    arrival = np.array(seconds, dtype=np.float64)
    order = np.argsort(arrival, kind="stable")
    prompt = np.array([prompt for _, prompt, _ in requests], dtype=np.int32)
    answer = np.array([answer for _, _, answer in requests], dtype=np.int32)
    return Trace(arrival[order], prompt[order], answer[order])


def _drawn(
    chance: np.random.Generator, count: int, median: int, spread: float, longest: int
) -> NDArray[np.int32]:
    drawn = median * np.exp(spread * chance.standard_normal(count))
    whole: NDArray[np.int32] = np.clip(np.rint(drawn), 1, longest).astype(np.int32)
    return whole


def _json_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {number} of the trace is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"line {number} of the trace is no JSON object; write one a line")
        yield number, {str(key).strip().lower(): value for key, value in row.items()}


def _csv_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(StringIO(text))
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise InputError(
                    f"line {reader.line_num} of the trace has {len(row)} fields where the first "
                    f"line names {len(names)}"
                )
            yield reader.line_num, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} of the trace is no CSV: {error}") from error


def _request(number: int, row: Mapping[str, Any]) -> tuple[float | datetime, int, int]:
    arrival = _field(number, row, _ARRIVAL, _time)
    return arrival, _field(number, row, _PROMPT, _tokens), _field(number, row, _ANSWER, _tokens)


def _field(
    number: int, row: Mapping[str, Any], names: Sequence[str], read: Callable[[Any], _Value]
) -> _Value:
    for name in names:
        if name in row:
            try:
                return read(row[name])
            except (ValueError, TypeError, OverflowError) as error:
                raise InputError(
                    f"line {number} of the trace: {name} is {row[name]!r}; {error}"
                ) from error
    raise InputError(f"line {number} of the trace has no {names[0]}")


def _time(value: Any) -> float | datetime:
    if isinstance(value, str) and ("-" in value[1:] and ":" in value):
        # Seven digits of a second, as Azure writes them, are one too many for Python.
        head, dot, rest = value.strip().partition(".")
        digits = len(rest) - len(rest.lstrip("0123456789"))
        return datetime.fromisoformat(head + dot + rest[: min(digits, 6)] + rest[digits:])
    seconds = _number(value)
    if not 0 <= seconds < math.inf:
        raise ValueError("write seconds, 0 or more")
    return seconds


def _tokens(value: Any) -> int:
    tokens = _number(value)
    if tokens != int(tokens) or not 1 <= tokens <= _LONGEST:
        raise ValueError("write a whole number, 1 or more")
    return int(tokens)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("write a number")
    try:
        return float(value)
    except ValueError:
        raise ValueError("write a number") from None
