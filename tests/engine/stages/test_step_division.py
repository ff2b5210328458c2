"""A step in two parts gives what it gives whole."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.compiler.executable import Argument
from banyan.compiler.ir.symbols import Dim, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.engine.cache.sequence_table import SequenceTable
from banyan.engine.runner import LaneSlice, step_arguments
from banyan.engine.stages.step_division import answering, join_results, share_of

TOKENS, SEQUENCES, ROWS = (symbol(n) for n in ("num_tokens", "num_sequences", "num_logit_rows"))


def argument(name: str, *shape: Dim, role: str = "argument") -> Argument:
    return Argument(name, TensorType(shape, DType.INT64), role)


INPUTS = (
    argument("token_ids", TOKENS),
    argument("positions", 3, TOKENS),
    argument("slots", TOKENS),
    argument("block_tables", SEQUENCES, 4),
    argument("query_starts", SEQUENCES),
    argument("context_lengths", SEQUENCES),
    argument("logit_rows", ROWS),
    argument("shared", 7),
)
OUTPUTS = (argument("logits", ROWS, 2, role="output"), argument("hidden", TOKENS, 1, role="output"))


def computed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Something in which every token sees its own sequence and nothing else."""
    owners = np.repeat(
        np.arange(len(arguments["context_lengths"])), np.diff(arguments["query_starts"])
    )
    seen = arguments["block_tables"].sum(axis=1)[owners] + arguments["context_lengths"][owners]
    hidden = arguments["token_ids"] * 1000 + arguments["positions"].sum(axis=0) + seen
    hidden = hidden + arguments["slots"] + arguments["shared"].sum()
    chosen = hidden[arguments["logit_rows"]]
    return {"hidden": hidden[:, None], "logits": np.stack([chosen, -chosen], axis=1)}


@st.composite
def steps(draw: st.DrawFn) -> tuple[dict[str, Any], list[bool]]:
    """Arguments of a step, and which of its sequences write answers."""
    table = SequenceTable(8, 64)
    slices, answers = [], []
    for lane in range(draw(st.integers(1, 6))):
        assert table.open_lane(list(range(100 * lane, 100 * lane + 40))) == lane
        table.append_blocks(lane, 0, [4 * lane, 4 * lane + 1, 4 * lane + 2])
        count, start = draw(st.integers(1, 9)), draw(st.integers(0, 30))
        wanted = draw(st.sampled_from((0, 1, count)))
        slices.append(LaneSlice(lane, start, count, wanted))
        answers.append(wanted == count)
    if not any(slice_.num_logits for slice_ in slices):
        answers[-1] = slices[-1].num_tokens == 1  # the row that a program needs
    arguments: dict[str, Any] = step_arguments(table, slices)
    arguments["positions"] = np.stack([arguments["positions"] * n for n in (1, 2, 3)])
    return {**arguments, "shared": np.arange(7)}, answers


@settings(deadline=None)
@given(steps())
def test_both_shares_joined_are_the_whole(step: tuple[dict[str, Any], list[bool]]) -> None:
    arguments, answers = step
    chosen = answering(arguments)
    assert chosen.tolist() == answers
    whole = computed(arguments)
    masks = [mask for mask in (~chosen, chosen) if mask.any()]
    shares = [share_of(INPUTS, arguments, mask) for mask in masks]
    assert all(len(share.arguments["logit_rows"]) >= 1 for share in shares)
    results = [(share, computed(share.arguments)) for share in shares]
    num_tokens, num_rows = len(arguments["token_ids"]), len(arguments["logit_rows"])
    joined = join_results(OUTPUTS, results, num_tokens, num_rows)
    assert {name: value.tolist() for name, value in joined.items()} == {
        name: value.tolist() for name, value in whole.items()
    }
