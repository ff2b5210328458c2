from banyan.compiler.tiling.options import LinearBlock, LinearShape
from banyan.compiler.tuner.candidates import predicted_seconds, ranked_blocks
from tests.compiler.tuner.test_roofline import PROFILE

SHAPE = LinearShape(128, 256, "bf16")


def test_every_candidate_is_ranked_once_and_none_is_wider_than_the_layer() -> None:
    blocks = ranked_blocks(SHAPE, (1, 512), PROFILE)
    assert len(blocks) == len(set(blocks)) == 5 * 5
    assert max(block.panels for block in blocks) == 16


def test_blocks_that_leave_a_thread_idle_rank_behind_those_that_share_the_work() -> None:
    even, alone = LinearBlock(64, 8), LinearBlock(64, 16)
    assert predicted_seconds(SHAPE, even, 1, PROFILE) < predicted_seconds(SHAPE, alone, 1, PROFILE)
    blocks = ranked_blocks(SHAPE, (1,), PROFILE)
    assert blocks.index(even) < blocks.index(alone)


def test_few_rows_are_bound_by_the_weight_and_many_by_arithmetic() -> None:
    block = LinearBlock(256, 8)
    one = predicted_seconds(SHAPE, block, 1, PROFILE)
    assert one >= 128 * 256 * 2 / PROFILE.read_bytes_per_second
    many = predicted_seconds(SHAPE, block, 100_000, PROFILE)
    assert many >= 2 * 100_000 * 128 * 256 / 4000.0
