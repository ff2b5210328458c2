"""How tokens are guessed: the options, with vLLM's names where the meaning is the same."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from banyan.foundation.errors import InputError

METHODS = ("ngram", "draft_model", "eagle", "medusa")
MOST_GUESSES = 32
LONGEST_MATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationOptions:
    """Choices for guessing tokens; wrong ones raise `InputError` naming field, value and limit.

    Attributes:
        method: "ngram" looks up what followed the same tokens before; "draft_model" asks a smaller
            model; "eagle" and "medusa" ask heads that read the model's hidden states.
        num_speculative_tokens: most guesses checked for one sequence in one step.
        model: the directory or hub id of the draft model or of the heads.
        prompt_lookup_min: tokens that must match before "ngram" guesses.
        prompt_lookup_max: tokens beyond which a match is not looked at.
        always: check every guess; otherwise a request is left in peace while it does not pay.
    """

    method: str
    num_speculative_tokens: int = 8
    model: str | None = None
    prompt_lookup_min: int = 3
    prompt_lookup_max: int = 16
    always: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise _wrong("method", self.method, f"use one of {', '.join(METHODS)}")
        _check_count("num_speculative_tokens", self.num_speculative_tokens, MOST_GUESSES)
        _check_count("prompt_lookup_max", self.prompt_lookup_max, LONGEST_MATCH)
        _check_count("prompt_lookup_min", self.prompt_lookup_min, self.prompt_lookup_max)
        if not isinstance(self.always, bool):
            raise _wrong("always", self.always, "give true or false")
        needs_model = self.method != "ngram"
        if needs_model and not (isinstance(self.model, str) and self.model):
            advice = f"the method {self.method} needs a directory or hub id"
            raise _wrong("model", self.model, advice)
        if not needs_model and self.model is not None:
            raise _wrong("model", self.model, f"the method {self.method} takes none; leave it out")


def read_speculation(
    given: "str | Mapping[str, Any] | SpeculationOptions | None",
) -> SpeculationOptions | None:
    """Take options as JSON text, as a mapping or as they are.

    Raises:
        InputError: it is not an object of known fields with values that can be used.
    """
    if given is None or isinstance(given, SpeculationOptions):
        return given
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError as error:
            raise InputError(f"the speculation is not JSON: {error}") from None
    if not isinstance(given, Mapping):
        raise InputError(
            f'the speculation is {given!r}; give an object such as {{"method": "ngram"}}'
        )
    known = [field.name for field in fields(SpeculationOptions)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InputError(
            f"the speculation has an unknown field {unknown[0]!r}; known are {', '.join(known)}"
        )
    if "method" not in given:
        # As in vLLM, a model alone says which method is meant.
        given = {**given, "method": "draft_model" if given.get("model") else None}
    return SpeculationOptions(**given)


def _check_count(name: str, value: object, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise _wrong(name, value, f"give a whole number from 1 to {most}")


def _wrong(name: str, value: object, advice: str) -> InputError:
    return InputError(f"speculation: {name}={value!r} cannot be used; {advice}")
