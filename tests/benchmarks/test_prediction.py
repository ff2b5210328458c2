"""The steps that predictions are judged on are laid out as they are told to the planner."""

import numpy as np
import pytest

from benchmarks.prediction import arguments_of, blocks_of, stages_of
from benchmarks.prediction_cases import GROUPS, Case, Group

CASES = [(group, case) for group in GROUPS for case in group.cases]


def test_there_are_at_least_forty_steps_of_every_kind() -> None:
    assert len(CASES) >= 40
    assert {group.split for group in GROUPS} == {"", "stages", "attention"}
    assert {group.weights for group in GROUPS} == {"bfloat16", "int8", "int4"}


@pytest.mark.parametrize(("group", "case"), CASES, ids=lambda value: value.title)
def test_a_step_has_the_sizes_that_are_told_of_it(group: Group, case: Case) -> None:
    arguments, told = arguments_of(case), case.shape
    starts, lengths = arguments["query_starts"], arguments["context_lengths"]
    new = np.diff(starts)
    assert len(arguments["token_ids"]) == told.num_tokens == starts[-1]
    assert len(arguments["logit_rows"]) == told.num_rows == len(lengths)
    assert lengths.sum() == told.cached_tokens
    seen = sum(n * length - n * (n - 1) / 2 for n, length in zip(new, lengths, strict=True))
    assert seen == told.attended_pairs
    assert arguments["slots"].max() < blocks_of(case) * 16
    assert len(set(arguments["slots"].tolist())) == told.num_tokens
    assert stages_of(group)[-1].end_layer == group.layers
