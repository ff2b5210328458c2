"""A step laid out as the decoder's arguments."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.engine.cache.sequence_table import SequenceTable
from banyan.engine.runner import LaneSlice, Runner, StepModel, step_arguments


class Recorder(StepModel):
    """A model that notes its arguments."""

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        self.arguments = arguments
        return {"logits": np.zeros((len(arguments["logit_rows"]), 4), dtype=np.float32)}


def table_of(*lanes: tuple[list[int], list[int]]) -> SequenceTable:
    table = SequenceTable(num_lanes=4, max_model_len=64)
    for tokens, blocks in lanes:
        table.append_blocks(table.open_lane(tokens), 0, blocks)
    return table


def test_one_token_each_reads_the_newest_token_and_writes_behind_the_others() -> None:
    table = table_of((list(range(100, 118)), [7, 2]), ([5, 6], [3]))
    model = Recorder()
    logits = Runner(model, table).run([LaneSlice(1, 1, 1, 1), LaneSlice(0, 17, 1, 1)])
    arguments = {name: array.tolist() for name, array in model.arguments.items()}
    assert arguments == {
        "token_ids": [6, 117],
        "positions": [1, 17],
        "slots": [3 * 16 + 1, 2 * 16 + 1],
        "block_tables": [[3, 0], [7, 2]],
        "query_starts": [0, 1, 2],
        "context_lengths": [2, 18],
        "logit_rows": [0, 1],
    }
    assert logits.shape == (2, 4)


def test_chunks_and_single_tokens_share_a_step() -> None:
    table = table_of((list(range(50, 70)), [4, 1]), ([8, 9, 10], [0]))
    arguments = step_arguments(table, [LaneSlice(1, 2, 1, 1), LaneSlice(0, 14, 4, 0)])
    assert arguments["token_ids"].tolist() == [10, 64, 65, 66, 67]
    assert arguments["positions"].tolist() == [2, 14, 15, 16, 17]
    assert arguments["slots"].tolist() == [2, 4 * 16 + 14, 4 * 16 + 15, 16, 17]
    assert arguments["query_starts"].tolist() == [0, 1, 5]
    assert arguments["context_lengths"].tolist() == [3, 18]
    assert arguments["logit_rows"].tolist() == [0]


def test_several_tokens_of_a_sequence_can_want_logits() -> None:
    table = table_of((list(range(50, 70)), [4, 1]), ([8, 9, 10], [0]))
    slices = [LaneSlice(1, 0, 3, 2), LaneSlice(0, 0, 4, 0), LaneSlice(0, 4, 5, 3)]
    assert step_arguments(table, slices)["logit_rows"].tolist() == [1, 2, 9, 10, 11]
    assert Runner(Recorder(), table).run(slices).shape == (5, 4)


def test_a_step_that_wants_no_logits_asks_for_one_row_and_gives_none() -> None:
    model = Recorder()
    logits = Runner(model, table_of(([1, 2, 3], [0]))).run([LaneSlice(0, 0, 2, 0)])
    assert model.arguments["logit_rows"].tolist() == [1]
    assert logits.shape == (0, 4)


def test_the_arrays_have_the_types_of_the_contract_and_lie_in_one_piece() -> None:
    table = table_of(([1, 2, 3], [0]))
    arguments = step_arguments(table, [LaneSlice(0, 0, 3, 1)])
    assert {name: array.dtype.name for name, array in arguments.items()} == {
        "token_ids": "int64",
        "positions": "int64",
        "slots": "int64",
        "block_tables": "int32",
        "query_starts": "int32",
        "context_lengths": "int32",
        "logit_rows": "int64",
    }
    for name, array in arguments.items():
        assert array.flags.c_contiguous, name


def test_a_token_past_the_end_of_the_table_is_dropped() -> None:
    table = SequenceTable(num_lanes=1, max_model_len=2)
    lane = table.open_lane([1, 2])
    table.append_tokens(lane, 2, [3])
    table.append_tokens(lane, 1, [7, 8, 9])
    assert table.tokens_LT.tolist() == [[1, 7]]


def test_a_closed_lane_is_opened_again() -> None:
    table = SequenceTable(num_lanes=1, max_model_len=2)
    lane = table.open_lane([1])
    table.close_lane(lane)
    assert table.open_lane([2]) == lane


def test_a_model_that_only_runs_is_begun_by_running_it() -> None:
    model = Recorder()
    given = {"logit_rows": np.zeros(2, dtype=np.int64)}
    run = model.begin(given)
    assert (model.num_in_flight, model.arguments is given) == (1, True)
    assert run.finish()["logits"].shape == (2, 4)
