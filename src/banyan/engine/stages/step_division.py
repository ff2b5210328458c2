"""Divide a step between two programs by sequences, and join what they give. Pure.

Dims: S sequences, T tokens, R rows of the results. Called by `prompts_apart`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import Argument, Array

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Share:
    """What one program computes of a step.

    Attributes:
        sequences: which sequences.
        tokens: which tokens.
        rows: which rows of the results; there may be none.
        arguments: of a step with these alone; it asks for a row where none is wanted.
    """

    sequences: Places
    tokens: Places
    rows: Places
    arguments: Mapping[str, Array]


def answering(arguments: Mapping[str, Array]) -> NDArray[np.bool_]:
    """Which sequences write their answers, [S].

    Each of their tokens wants its logits: the newest one, and guesses that are checked beside it.
    Of a prompt only the last token does.
    """
    starts, rows = arguments["query_starts"], arguments["logit_rows"]
    wanted_S = np.bincount(_owners(starts, rows), minlength=len(starts) - 1)
    found: NDArray[np.bool_] = wanted_S == np.diff(starts)
    return found


def share_of(
    inputs: Sequence[Argument], arguments: Mapping[str, Array], chosen_S: NDArray[np.bool_]
) -> Share:
    """The part of a step that belongs to some of its sequences, at least one.

    Args:
        inputs: the arguments of the program, whose sizes say what is by token or by sequence.
        arguments: of the whole step.
        chosen_S: which sequences.
    """
    starts, rows = arguments["query_starts"], arguments["logit_rows"]
    counts_S = np.diff(starts)
    is_mine_T = np.repeat(chosen_S, counts_S)
    sequences_S, tokens_T = np.flatnonzero(chosen_S), np.flatnonzero(is_mine_T)
    rows_R = np.flatnonzero(is_mine_T[rows])
    places_T = np.cumsum(is_mine_T) - 1
    wanted = places_T[rows[rows_R]] if len(rows_R) else places_T[-1:]
    made = {
        "query_starts": np.concatenate([[0], np.cumsum(counts_S[chosen_S])]).astype(starts.dtype),
        "logit_rows": wanted.astype(rows.dtype),
    }
    taken = {"num_tokens": tokens_T, "num_sequences": sequences_S}
    for argument in inputs:
        if argument.role == "argument" and argument.name not in made:
            made[argument.name] = _taken(argument, arguments[argument.name], taken)
    return Share(sequences_S, tokens_T, rows_R, made)


def join_results(
    outputs: Sequence[Argument],
    shares: Sequence[tuple[Share, Mapping[str, Array]]],
    num_tokens: int,
    num_rows: int,
) -> dict[str, Array]:
    """The results of a whole step from those of its shares."""
    joined: dict[str, Array] = {}
    for output in outputs:
        by_token = str(output.type.shape[0]) == "num_tokens"
        first = shares[0][1][output.name]
        whole = np.empty((num_tokens if by_token else num_rows, *first.shape[1:]), first.dtype)
        for share, results in shares:
            places = share.tokens if by_token else share.rows
            # A share that wanted no row was given one all the same.
            whole[places] = results[output.name][: len(places)]
        joined[output.name] = whole
    return joined


def _owners(starts: Array, rows: Array) -> Places:
    """The sequence of each row."""
    return np.searchsorted(starts, rows, side="right") - 1


def _taken(argument: Argument, array: Array, taken: Mapping[str, Places]) -> Array:
    for axis, size in enumerate(argument.type.shape):
        places = taken.get(str(size))
        if places is not None:
            array = np.take(array, places, axis=axis)
    return array
