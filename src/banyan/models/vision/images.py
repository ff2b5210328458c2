"""An image as a tower wants it: how many patches, and their numbers. Imports no NumPy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ImageSize:
    """An image as the tower will see it.

    Attributes:
        rows, columns: patches in each direction.
        num_tokens: places that it takes among the tokens of a prompt.
    """

    rows: int
    columns: int
    num_tokens: int

    @property
    def grid(self) -> tuple[int, int, int]:
        """Frames, rows and columns of patches."""
        return (1, self.rows, self.columns)


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """Pixels cut into patches; what `VisionRunner.encode` takes.

    Attributes:
        patches: [patches, values of one] float32, in the order the tower merges them.
        grid: frames, rows and columns of patches.
        num_tokens: rows that the tower will make of them.
    """

    patches: "NDArray[np.float32]"
    grid: tuple[int, int, int]
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Scaling:
    """How pixels become numbers.

    Attributes:
        resample: number of Pillow's filter; 3 is bicubic.
        factor: what a byte is multiplied by.
        mean, deviation: of each channel; taken off, and divided by.
    """

    resample: int
    factor: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
