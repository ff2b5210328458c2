"""Chips that lie about themselves: the largest limits that work are used, and a warning says so."""

from types import SimpleNamespace

import pytest

from banyan.devices.opencl_limits import OpenClLimits, Try, believed_limits, claimed_limits
from banyan.foundation.errors import EnvironmentProblem

KIB = 1024


def runs_up_to(lanes: int, local_bytes: int) -> Try:
    def attempt(limits: OpenClLimits) -> str | None:
        fits = limits.lanes <= lanes and limits.local_bytes <= local_bytes
        return None if fits else "CL_OUT_OF_RESOURCES"

    return attempt


def test_true_claims_are_believed_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    claimed = OpenClLimits(64, 32 * KIB)
    assert believed_limits("opencl:0", claimed, runs_up_to(64, 32 * KIB)) == claimed
    assert not caplog.records


@pytest.mark.parametrize(
    ("claimed", "able", "found"),
    [
        (OpenClLimits(64, 64 * KIB), (64, 20 * KIB), OpenClLimits(64, 16 * KIB)),
        (OpenClLimits(64, 64 * KIB), (64, 0), OpenClLimits(64, 0)),
        (OpenClLimits(1024, 64 * KIB), (256, 64 * KIB), OpenClLimits(256, 64 * KIB)),
        (OpenClLimits(64, 64 * KIB), (7, 5 * KIB), OpenClLimits(4, 4 * KIB)),
    ],
)
def test_a_chip_that_claims_too_much_runs_with_what_works(
    claimed: OpenClLimits,
    able: tuple[int, int],
    found: OpenClLimits,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert believed_limits("opencl:0 (Chip)", claimed, runs_up_to(*able)) == found
    assert f"it runs {found.lanes} with {found.local_bytes}" in caplog.text


def test_a_chip_that_runs_nothing_is_refused_with_its_reason() -> None:
    with pytest.raises(EnvironmentProblem, match="not even the smallest kernel: CL_OUT_OF"):
        believed_limits("opencl:0", OpenClLimits(8, KIB), runs_up_to(0, 0))


def test_claims_are_cut_to_what_our_kernels_would_use() -> None:
    chip = SimpleNamespace(
        max_work_group_size=32, max_work_item_sizes=[16, 1, 1], local_mem_size=48 * KIB + 5
    )
    assert claimed_limits(chip, is_cpu=False) == OpenClLimits(16, 48 * KIB)
    assert claimed_limits(chip, is_cpu=True) == OpenClLimits(1, 48 * KIB)
