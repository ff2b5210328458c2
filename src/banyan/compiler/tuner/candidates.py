"""Which blocks of a linear layer are worth timing: all of them, ranked by a small model.

Pure. The model knows four costs: the arithmetic, the bytes of the weight, what blocks read again
from the caches, and threads that wait because the blocks do not divide evenly.
"""

from banyan.compiler.tiling.options import LinearBlock, LinearShape
from banyan.compiler.tuner.roofline import CACHE_SPEEDUP
from banyan.devices.profile import DeviceProfile

ROWS = (16, 32, 64, 128, 256)
PANELS = (1, 2, 4, 8, 16, 32)
COLUMNS_OF_PANEL = 16
SECONDS_OF_PROGRAM = 3e-7
_PEAKS = {"bf16": "bfloat16", "f32": "float32", "i8": "int8", "u8": "int8"}
_BYTES = {"bf16": 2.0, "f32": 4.0, "i8": 1.0, "u8": 0.5}


def ranked_blocks(
    shape: LinearShape, rows: tuple[int, ...], profile: DeviceProfile
) -> list[LinearBlock]:
    """Every candidate, the most promising first, for activations of each number of `rows`."""
    panels = -(-shape.columns // COLUMNS_OF_PANEL)
    blocks = [LinearBlock(r, p) for r in ROWS for p in PANELS if p <= panels]
    floors = {m: min(predicted_seconds(shape, b, m, profile) for b in blocks) for m in rows}

    def loss(block: LinearBlock) -> float:
        return sum(predicted_seconds(shape, block, m, profile) / floors[m] for m in rows)

    return sorted(blocks, key=loss)


def predicted_seconds(
    shape: LinearShape, block: LinearBlock, rows: int, profile: DeviceProfile
) -> float:
    """Seconds of one launch over `rows` rows of activations."""
    panels = -(-shape.columns // COLUMNS_OF_PANEL)
    height, width = min(block.rows, rows), min(block.panels, panels)
    row_blocks, groups = -(-rows // height), -(-panels // width)
    programs = row_blocks * groups
    threads = profile.num_threads
    busiest = -(-programs // threads) * threads / programs
    peaks = profile.peaks()
    peak = peaks.get(_PEAKS.get(shape.weight, "float32"), peaks["float32"])
    arithmetic = 2.0 * rows * shape.depth * shape.columns / peak
    size = _BYTES.get(shape.weight, 4.0)
    weight = shape.depth * shape.columns * size
    again = (row_blocks - 1) * weight + groups * rows * shape.depth * size
    bandwidth = profile.read_bytes_per_second
    memory = (weight + again / CACHE_SPEEDUP) / bandwidth
    return max(arithmetic, memory) * busiest + programs * SECONDS_OF_PROGRAM / threads
