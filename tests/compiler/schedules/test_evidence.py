from pathlib import Path

import pytest

from banyan.compiler.schedules.evidence import Evidence, Finding, Timing
from banyan.compiler.tiling.options import LinearBlock, LinearShape
from banyan.foundation.errors import StorageFull

SHAPE = LinearShape(1024, 3072, "bf16")


def finding(rows: int, shape: LinearShape = SHAPE) -> Finding:
    block = LinearBlock(rows, 4)
    return Finding(shape, block, (Timing(block, ((1, 1e-4), (512, 2e-3))),), "2026-01-01")


def test_the_newest_finding_of_a_shape_is_read_back(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path / "new", device="d", kernels="k")
    assert evidence.blocks() == ()
    evidence.keep([finding(32), finding(128, LinearShape(8, 16, "f32"))])
    evidence.keep([finding(64)])
    assert evidence.blocks() == (
        (SHAPE, LinearBlock(64, 4)),
        (LinearShape(8, 16, "f32"), LinearBlock(128, 4)),
    )


@pytest.mark.parametrize(("device", "kernels"), [("other", "k"), ("d", "other")])
def test_findings_of_another_device_or_other_kernels_are_not_read(
    tmp_path: Path, device: str, kernels: str
) -> None:
    Evidence(tmp_path, device="d", kernels="k").keep([finding(32)])
    assert Evidence(tmp_path, device=device, kernels=kernels).blocks() == ()


def test_a_damaged_file_counts_as_empty_and_says_what_to_do_when_written(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, device="d", kernels="k")
    evidence.path.write_bytes(b"this is no database" * 100)
    assert evidence.blocks() == ()
    with pytest.raises(StorageFull, match="delete the file if it is damaged"):
        evidence.keep([finding(32)])
