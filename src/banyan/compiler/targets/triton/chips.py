"""What is known of the chips that have a Triton compiler, as data.

The facts are those that change the text of a kernel or of its launch. They were gathered from the
compilers' sources by the FlagOS project; only rows that a GPU ran are proved, see the support
matrix.
"""

from dataclasses import dataclass

from banyan.compiler.tiling.options import TileOptions

LARGEST_CUDA_GRID = 2**31 - 1
LARGEST_PORTABLE_GRID = 65535
FUSED = (("enable_fp_fusion", True),)
"""Multiply and add in one instruction; stated because the default changes in Triton 3.10."""

BLOCKS = TileOptions(
    row_block=64,
    panel_group=8,
    product_rows=64,
    product_columns=128,
    widest_row=4096,
    row_piece=1024,
    packing=False,
    depth_piece=64,
    longest_tile=16384,
    longest_scores=0,
    tile_elements=2048,
    attention_blocks=2,
)
"""Tiles of a block language: plain weights, sums over pieces of K, rows of bounded length."""


@dataclass(frozen=True, slots=True)
class Chip:
    """Attributes:
    name: as in `banyan compile --target triton:NAME`.
    warp_size: threads of a warp; 1 where there are none.
    largest_grid: programs of one launch; a kernel with more of them loops.
    most_warps: the largest `num_warps` its compiler takes; 0 where it ignores the number.
    stages: `num_stages` of loops around a matrix product.
    precision: `input_precision` of float32 products; always stated, as defaults differ.
    is_interpreted: it is Triton's interpreter, which multiplies the bits of bfloat16 matrices and
        gives loops plain Python numbers.
    has_int64: False computes 64-bit integers in 32 bits, whatever a kernel says.
    erf: False where `tl.erf` is known to fail.
    hints: further options of a launch.
    options: the schedule.
    """

    name: str
    warp_size: int
    largest_grid: int = LARGEST_PORTABLE_GRID
    most_warps: int = 16
    stages: int = 2
    precision: str = "ieee"
    is_interpreted: bool = False
    has_int64: bool = True
    erf: bool = True
    hints: tuple[tuple[str, bool], ...] = ()
    options: TileOptions = BLOCKS


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("nvidia", 32, largest_grid=LARGEST_CUDA_GRID, stages=3, hints=FUSED),
        Chip("amd", 64, largest_grid=LARGEST_CUDA_GRID, hints=FUSED),
        Chip("hygon", 64),
        Chip("iluvatar", 64),
        Chip("metax", 64),
        Chip("moore_threads", 32),
        Chip("enflame", 1, most_warps=4, has_int64=False),
        Chip("kunlun", 1, most_warps=0, erf=False),
        Chip("ascend", 1, most_warps=0),
        Chip("intel", 16),
        Chip("interpreter", 1, most_warps=0, is_interpreted=True),
    )
}
"""By name."""
