"""Blocks that two programs have: each reads what was written last, wherever that was."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.engine.cache.key_value_blocks import BLOCK_SIZE
from banyan.engine.stages.block_copies import BlockCopies, Touched, touched_by

NUM_BLOCKS = 4


def touched(reads: list[tuple[int, int]], writes: list[tuple[int, int]]) -> Touched:
    """From (block, number of places) and (block, place)."""
    read, written = np.array(reads, np.int64).reshape(-1, 2), np.array(writes, np.int64)
    written = written.reshape(-1, 2)
    return Touched(read[:, 0], read[:, 1], written[:, 0], written[:, 1])


def test_a_step_reads_what_is_before_its_tokens_and_writes_its_slots() -> None:
    arguments = {
        "block_tables": np.array([[5, 6], [7, 0]], np.int32),
        "query_starts": np.array([0, 2, 3], np.int32),
        "context_lengths": np.array([21, 1], np.int32),
        "slots": np.array([6 * 16 + 3, 6 * 16 + 4, -1]),
    }
    found = touched_by(arguments)
    assert found.read.tolist() == [5, 6]
    assert found.places.tolist() == [16, 3]
    assert (found.written.tolist(), found.offsets.tolist()) == ([6, 6], [3, 4])


def test_a_block_moves_once_and_again_only_for_what_came_since() -> None:
    copies = BlockCopies(NUM_BLOCKS)
    copies.note_written(0, touched([], [(2, place) for place in range(5)]))
    assert copies.missing(1, touched([(2, 5)], [])) == [2]
    copies.note_moved(1, 2)
    assert copies.missing(1, touched([(2, 5)], [])) == []
    copies.note_written(1, touched([], [(2, 5)]))
    assert copies.missing(0, touched([(2, 5)], [])) == []
    assert copies.missing(0, touched([(2, 6)], [])) == [2]
    assert copies.newest(2) == 1


def test_a_block_that_was_given_whole_is_good_on_that_side_only() -> None:
    copies = BlockCopies(NUM_BLOCKS)
    copies.note_written(1, touched([], [(0, 0)]))
    copies.note_filled(0, 0)
    assert copies.missing(1, touched([(0, 1)], [])) == [0]
    assert copies.newest(0) == 0


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Steps of one slice each: (side, block, first place written, places written)."""
    steps, filled = [], [0] * NUM_BLOCKS
    for _ in range(draw(st.integers(1, 20))):
        block = draw(st.integers(0, NUM_BLOCKS - 1))
        # On from what is there, over guesses that were wrong, or anew for another sequence.
        start = draw(st.integers(0, min(filled[block], BLOCK_SIZE - 1)))
        count = draw(st.integers(1, BLOCK_SIZE - start))
        filled[block] = start + count
        steps.append((draw(st.integers(0, 1)), block, start, count))
    return steps


@settings(deadline=None)
@given(histories())
def test_whoever_reads_finds_what_was_written_last(steps: list[tuple[int, int, int, int]]) -> None:
    copies = BlockCopies(NUM_BLOCKS)
    memory = np.zeros((2, NUM_BLOCKS, BLOCK_SIZE), np.int64)
    newest = np.zeros((NUM_BLOCKS, BLOCK_SIZE), np.int64)
    for number, (side, block, start, count) in enumerate(steps, start=1):
        step = touched(
            [(block, start)] if start else [],
            [(block, place) for place in range(start, start + count)],
        )
        for missing in copies.missing(side, step):
            memory[side, missing] = memory[1 - side, missing]
            copies.note_moved(side, missing)
        assert memory[side, block, :start].tolist() == newest[block, :start].tolist()
        copies.note_written(side, step)
        memory[side, block, start : start + count] = number
        newest[block, start : start + count] = number
        kept = memory[copies.newest(block), block, : start + count]
        assert kept.tolist() == newest[block, : start + count].tolist()
