"""The least time a kernel can take on a measured device: Williams, Waterman and Patterson (2009).

Pure. Memory and arithmetic overlap, so the slower of both counts; `launch_seconds` comes on top.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from banyan.compiler.tuner.work import Work
from banyan.devices.profile import DeviceProfile

CACHE_SPEEDUP = 4.0
"""How much faster than memory the caches give values that one kernel leaves for the next."""
VECTOR_SHARE = 0.25
"""Elements per second beside the float32 peak, which counts two operations per lane and port."""
_PEAKS = {"f32": "float32", "bf16": "bfloat16", "f16": "float32", "i8": "int8", "u8": "int8"}


@dataclass(frozen=True, slots=True)
class Floor:
    """Attributes:
    memory_seconds: moving the bytes.
    arithmetic_seconds: the products and the element-wise work.
    launch_seconds: starting the threads.
    """

    memory_seconds: float
    arithmetic_seconds: float
    launch_seconds: float

    @property
    def seconds(self) -> float:
        """The least time of the launch."""
        return max(self.memory_seconds, self.arithmetic_seconds) + self.launch_seconds

    @property
    def bound(self) -> str:
        """What holds the kernel back."""
        return "memory" if self.memory_seconds >= self.arithmetic_seconds else "arithmetic"


def kernel_floor(work: Work, in_memory: Sequence[bool], profile: DeviceProfile) -> Floor:
    """The floor of one launch.

    `in_memory` says of each pointer whether its bytes come from memory; the others were written by
    a kernel just before and lie in a cache.
    """
    peaks = profile.peaks()
    slowest = peaks["float32"]
    far = sum(b for b, is_far in zip(work.bytes_moved, in_memory, strict=True) if is_far)
    near = work.num_bytes - far
    memory = (far + near / CACHE_SPEEDUP) / profile.read_bytes_per_second
    products = sum(
        count / peaks.get(_PEAKS.get(kind, "float32"), slowest) for kind, count in work.products
    )
    elements = work.elements / (VECTOR_SHARE * slowest)
    return Floor(memory, products + elements, profile.launch_seconds)
