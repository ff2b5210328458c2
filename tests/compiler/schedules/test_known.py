from pathlib import Path

import pytest

from banyan.compiler.schedules.evidence import FILE_NAME, Finding
from banyan.compiler.schedules.known import known_blocks, open_evidence, seed_blocks
from banyan.compiler.tiling.options import LinearBlock, LinearShape
from banyan.devices.instruction_sets import INSTRUCTION_SETS

SHAPE = LinearShape(1024, 3072, "bf16")


@pytest.mark.parametrize("level", [level.name for level in INSTRUCTION_SETS])
def test_what_ships_is_what_is_known_on_a_fresh_machine(level: str, tmp_path: Path) -> None:
    assert known_blocks(level, tmp_path) == seed_blocks(level)
    assert all(block.rows > 0 and block.panels > 0 for _, block in seed_blocks(level))
    assert not (tmp_path / FILE_NAME).exists()


def test_what_was_tuned_here_comes_before_what_ships(tmp_path: Path) -> None:
    block = LinearBlock(16, 32)
    open_evidence(tmp_path).keep([Finding(SHAPE, block, (), "2026-01-01")])
    assert dict(known_blocks("avx512_bf16", tmp_path))[SHAPE] == block
