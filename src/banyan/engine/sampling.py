"""How the next token is chosen: the options a caller gives for one request.

Plain, validated data. The arithmetic is in `sampler`; the names and meanings are those of
vLLM's `SamplingParams` wherever the meaning is the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TypeVar

from banyan.engine.structure.definition import Structure
from banyan.foundation.errors import RequestError

Item = TypeVar("Item")

MAX_LOGPROBS = 20
MAX_CHOICES = 128
MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 4096
MAX_LISTED_TOKENS = 4096

# Field, lowest, highest (None: no limit), both included.
_NUMBER_RANGES: tuple[tuple[str, float, float], ...] = (
    ("temperature", 0.0, 100.0),
    ("min_p", 0.0, 1.0),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
    # Beyond these a logit times or by the penalty may be no number in float32.
    ("repetition_penalty", 0.01, 100.0),
)
_COUNT_RANGES: tuple[tuple[str, int, int | None], ...] = (
    ("top_k", -1, None),
    ("min_tokens", 0, None),
    ("n", 1, MAX_CHOICES),
)
_OPTIONAL_COUNT_RANGES: tuple[tuple[str, int, int | None], ...] = (
    ("max_tokens", 1, None),
    ("logprobs", 0, MAX_LOGPROBS),
    ("prompt_logprobs", 0, MAX_LOGPROBS),
    ("seed", -(2**63), 2**63 - 1),
)
_SWITCHES = ("ignore_eos", "include_stop_str_in_output", "skip_special_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """Options of one request; a wrong value raises `RequestError` naming field, value and limit.

    Attributes:
        max_tokens: most tokens to generate; None fills the context.
        temperature: 0 takes the likeliest token, 1 the model's own distribution.
        top_p: keep the fewest likeliest tokens whose probabilities sum to this, above 0 to 1.
        top_k: keep this many likeliest tokens; 0 (or -1) keeps all.
        min_p: keep tokens at least this probable relative to the likeliest one.
        repetition_penalty: above 1 makes tokens of the prompt and the answer less likely.
        presence_penalty: subtracted once from the logit of each token already generated.
        frequency_penalty: subtracted as often as the token was already generated.
        seed: makes the answer reproducible, whatever else is in the batch.
        stop: text or texts at which generation ends; not part of the answer.
        stop_token_ids: tokens at which generation ends.
        ignore_eos: go on after the model's end-of-sequence token.
        min_tokens: no end and no stop before this many tokens.
        logprobs: give the log probability of each token and of this many likeliest others.
        prompt_logprobs: give the same for each token of the prompt but its first; the prompt is
            computed anew for it.
        n: how many answers to give.
        logit_bias: token id to a number in -100..100 added to its logit.
        allowed_token_ids: only these tokens may come; None allows all.
        bad_token_sequences: sequences of tokens that may not come, each at least one token long.
        include_stop_str_in_output: keep the stop string in the text.
        skip_special_tokens: leave special tokens out of the text.
        structure: the shape the answer must have, such as a JSON schema.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    n: int = 1
    logit_bias: Mapping[int, float] | None = None
    allowed_token_ids: Sequence[int] | None = None
    bad_token_sequences: Sequence[Sequence[int]] = ()
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    structure: Structure | None = None

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check_counts(self)
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, getattr(self, name), "give true or false")
        # Frozen data is normalised once here, so that readers meet one form only.
        object.__setattr__(self, "top_k", max(self.top_k, 0))
        object.__setattr__(self, "stop", _stop_strings(self.stop))
        object.__setattr__(
            self, "stop_token_ids", _token_ids("stop_token_ids", self.stop_token_ids)
        )
        object.__setattr__(self, "allowed_token_ids", _allowed(self.allowed_token_ids))
        object.__setattr__(self, "bad_token_sequences", _bad_sequences(self.bad_token_sequences))
        object.__setattr__(self, "logit_bias", _logit_bias(self.logit_bias))

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings in the one form they are kept in."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def is_greedy(self) -> bool:
        """True when the likeliest token is always taken."""
        return self.temperature < 1e-5 or self.top_k == 1

    @property
    def changes_logits(self) -> bool:
        """True when logits are changed before the choice: penalties, bias, minimum length, bans."""
        return (
            self.repetition_penalty != 1.0
            or self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
            or self.min_tokens > 0
            or bool(self.logit_bias)
            or self.allowed_token_ids is not None
            or bool(self.bad_token_sequences)
        )


def _wrong(name: str, value: object, advice: str) -> RequestError:
    return RequestError(f"{name}={value!r} cannot be used; {advice}", parameter=name)


def _is_number(value: object) -> bool:
    # Compared, not converted: an int may be too large for a float.
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    return is_real and -math.inf < value < math.inf  # type: ignore[operator]


def _check_numbers(options: SamplingOptions) -> None:
    for name, low, high in _NUMBER_RANGES:
        value = getattr(options, name)
        if not _is_number(value) or not low <= value <= high:
            raise _wrong(name, value, f"give a number {_range_words(low, high)}")
    if not _is_number(options.top_p) or not 0.0 < options.top_p <= 1.0:
        raise _wrong("top_p", options.top_p, "give a number above 0 and at most 1")


def _check_counts(options: SamplingOptions) -> None:
    for name, low, high in _COUNT_RANGES:
        _check_count(name, getattr(options, name), low, high)
    for name, low, high in _OPTIONAL_COUNT_RANGES:
        if getattr(options, name) is not None:
            _check_count(name, getattr(options, name), low, high)
    if options.max_tokens is not None and options.min_tokens > options.max_tokens:
        advice = f"it must not exceed max_tokens={options.max_tokens}"
        raise _wrong("min_tokens", options.min_tokens, advice)


def _check_count(name: str, value: object, low: int, high: int | None) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):  # type: ignore[operator]
        raise _wrong(name, value, f"give a whole number {_range_words(low, high)}")


def _range_words(low: float, high: float | None) -> str:
    return f"of {low} or more" if high is None else f"from {low} to {high}"


def _stop_strings(stop: str | Sequence[str]) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else tuple(_sequence("stop", stop))
    if not all(isinstance(string, str) and string for string in strings):
        raise _wrong("stop", stop, "give one text or a list of texts, none of them empty")
    if len(strings) > MAX_STOP_STRINGS:
        raise RequestError(
            f"stop has {len(strings)} texts; at most {MAX_STOP_STRINGS} are allowed",
            parameter="stop",
        )
    longest = max(map(len, strings), default=0)
    if longest > MAX_STOP_CHARACTERS:
        raise RequestError(
            f"stop has a text of {longest} characters; at most {MAX_STOP_CHARACTERS} are allowed",
            parameter="stop",
        )
    return strings


def _token_ids(name: str, token_ids: Sequence[int]) -> tuple[int, ...]:
    ids = tuple(_sequence(name, token_ids))
    _check_listed(name, len(ids))
    for token_id in ids:
        _check_count(name, token_id, 0, None)
    return ids


def _allowed(token_ids: Sequence[int] | None) -> tuple[int, ...] | None:
    if token_ids is None:
        return None
    ids = _token_ids("allowed_token_ids", token_ids)
    if not ids:
        raise _wrong("allowed_token_ids", token_ids, "list at least one token, or leave it out")
    return ids


def _bad_sequences(sequences: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    name = "bad_token_sequences"
    bad = tuple(_token_ids(name, sequence) for sequence in _sequence(name, sequences))
    if not all(bad):
        raise _wrong(name, sequences, "give sequences of at least one token")
    _check_listed(name, sum(map(len, bad)))
    return bad


def _check_listed(name: str, num_tokens: int) -> None:
    # Each answer of each prompt carries its own copy.
    if num_tokens > MAX_LISTED_TOKENS:
        raise RequestError(
            f"{name} lists {num_tokens} tokens; at most {MAX_LISTED_TOKENS} are allowed",
            parameter=name,
        )


def _sequence(name: str, value: Sequence[Item]) -> Sequence[Item]:
    if not isinstance(value, Sequence):
        raise _wrong(name, value, "give a list")
    return value


def _logit_bias(bias: Mapping[int, float] | None) -> dict[int, float] | None:
    if bias is None:
        return None
    if not isinstance(bias, Mapping):
        raise _wrong("logit_bias", bias, "give a mapping from token id to a number")
    _check_listed("logit_bias", len(bias))
    for token_id, value in bias.items():
        _check_count("logit_bias", token_id, 0, None)
        if not _is_number(value) or not -100.0 <= value <= 100.0:
            raise _wrong("logit_bias", value, "give numbers from -100 to 100")
    return dict(bias)
