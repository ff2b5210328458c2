"""What an OpenCL device claims of its work-groups, and what it was seen to do.

Some drivers claim local memory they cannot give or work-groups they cannot run. Every claim that
programs rely on is tried with one small kernel when a device is opened; where it fails, the largest
limits below it that work are used, and a warning says so.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from banyan.foundation.errors import EnvironmentProblem

_logger = logging.getLogger(__name__)

LANES_OF_CPU = 1
"""A core runs a work-group's items one after the other: with one of them loops vectorise best, and
PoCL compiles five times faster than with eight."""

LANES_OF_OTHERS = 64
_MOST_LOCAL_BYTES = 256 * 1024
"""More than any tile of ours that is worth keeping near."""

PROBE = """
__kernel __attribute__((reqd_work_group_size(LANES, 1, 1)))
void probe(__global int* out) {
  int wrong = 0;
#if BYTES
  __local int memory[BYTES / 4];
  for (int i = get_local_id(0); i < BYTES / 4; i += LANES) memory[i] = i ^ 21;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int i = LANES - 1 - get_local_id(0); i < BYTES / 4; i += LANES) wrong |= memory[i] ^ i ^ 21;
#endif
  out[get_local_id(0)] = wrong ? -1 : get_local_id(0);
}
"""
"""Writes its numbers 0 .. LANES - 1 where BYTES of local memory hold what is written to them."""


@dataclass(frozen=True, slots=True)
class OpenClLimits:
    """What a work-group may use.

    Attributes:
        lanes: work-items of a group.
        local_bytes: local memory of a group, whole kibibytes.
    """

    lanes: int
    local_bytes: int


Try = Callable[[OpenClLimits], str | None]
"""Runs a kernel within limits; the reason where it fails."""


def claimed_limits(chip: Any, *, is_cpu: bool) -> OpenClLimits:
    """What a driver says its device can do, as far as our kernels would use it."""
    lanes = LANES_OF_CPU if is_cpu else LANES_OF_OTHERS
    lanes = min(lanes, int(chip.max_work_group_size), int(chip.max_work_item_sizes[0]))
    local_bytes = min(int(chip.local_mem_size), _MOST_LOCAL_BYTES)
    return OpenClLimits(max(1, lanes), local_bytes // 1024 * 1024)


def believed_limits(name: str, claimed: OpenClLimits, attempt: Try) -> OpenClLimits:
    """The claimed limits, or the largest halves of them that a kernel really runs with.

    Raises:
        EnvironmentProblem: not even one work-item without local memory runs.
    """
    lanes, local_bytes = claimed.lanes, claimed.local_bytes
    while (reason := attempt(OpenClLimits(lanes, local_bytes))) is not None:
        if local_bytes and attempt(OpenClLimits(lanes, 0)) is None:
            local_bytes = local_bytes // 2 // 1024 * 1024
        elif lanes > 1:
            lanes //= 2
        else:
            raise EnvironmentProblem(
                f"{name} runs not even the smallest kernel: {reason}; "
                "check its driver or use --device cpu"
            )
    found = OpenClLimits(lanes, local_bytes)
    if found != claimed:
        _logger.warning(
            "%s claims work-groups of %d with %d bytes of local memory; it runs %d with %d, "
            "and these are used",
            name,
            claimed.lanes,
            claimed.local_bytes,
            lanes,
            local_bytes,
        )
    return found
