"""Where arrays lie in a message: literal places, what is refused, nothing stale remembered."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from banyan.distributed.channel import TypedShape
from banyan.distributed.frames import ArrayHead, FrameLimits, print_arrays, read_arrays
from banyan.distributed.layout import Layouts
from banyan.foundation.errors import DamagedMessage, InputError

LIMITS = FrameLimits(head_bytes=1 << 16, body_bytes=1 << 20, arrays=8)


def test_arrays_lie_at_multiples_of_64() -> None:
    arrays: dict[str, Any] = {
        "a": np.zeros(3, np.int8),
        "b": np.zeros((2, 40), np.float32),
        "c": np.array(1.0),
    }
    layout = Layouts(LIMITS).of("run", arrays)
    assert read_arrays(layout.printed, "run") == [
        ArrayHead("a", "int8", (3,), 0),
        ArrayHead("b", "float32", (2, 40), 64),
        ArrayHead("c", "float64", (), 384),
    ]
    assert layout.num_bytes == 448


def test_views_lie_where_the_layout_says() -> None:
    bfloat16 = np.dtype(ml_dtypes.bfloat16)
    shapes = {"n": TypedShape(np.dtype("int8"), (3,)), "v": TypedShape(bfloat16, (2,))}
    layout = Layouts(LIMITS).of("x", shapes)
    data = np.zeros(64 + layout.num_bytes, np.uint8)
    views = layout.views(data, 64)
    views["n"][:] = [1, 2, 3]
    views["v"][:] = [1.5, -2.0]
    assert data[64:67].tolist() == [1, 2, 3]
    assert data[128:132].tobytes() == np.array([1.5, -2.0], ml_dtypes.bfloat16).tobytes()


def test_the_same_names_with_other_shapes_or_dtypes_are_laid_out_anew() -> None:
    layouts = Layouts(LIMITS)
    for array in (np.zeros((2, 3), np.int8), np.zeros((3, 2), np.int8), np.zeros((3, 2))):
        (placed,) = layouts.of("run", {"x": array}).arrays
        assert (placed.shape, placed.dtype) == (array.shape, array.dtype)
    assert layouts.of("run", {"y": np.zeros((3, 2))}).arrays[0].name == "y"


def test_what_was_read_once_is_measured_against_every_message() -> None:
    layouts = Layouts(LIMITS)
    printed = print_arrays([ArrayHead("x", "float32", (4,), 64)])
    assert layouts.read("run", printed, 80).num_bytes == 80
    with pytest.raises(DamagedMessage, match="not inside the 79 bytes"):
        layouts.read("run", printed, 79)
    assert layouts.read("run", printed, 80).arrays[0].offset == 64


def test_ever_new_layouts_do_not_fill_the_memory() -> None:
    layouts = Layouts(FrameLimits())
    for length in range(600):
        layout = layouts.of("run", {"x": np.zeros(length, np.int8)})
        assert layouts.read("run", layout.printed, layout.num_bytes).arrays[0].shape == (length,)
    many = {str(number): np.zeros(1) for number in range(1000)}
    assert layouts.of("run", many) is not layouts.of("run", many)
    assert len(layouts._sent) <= 256
    assert len(layouts._read) <= 256


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.array(["text"])}, "'x' of message 'run' is 1-dimensional of <U4"),
        ({"x": np.array([None])}, "of object"),
        ({"x": np.zeros(2, ">f4")}, "of >f4"),
        ({str(i): np.zeros(1) for i in range(9)}, "9 arrays; at most 8"),
        ({"x": np.zeros(1 << 20)}, "8388608 bytes of arrays; at most 1048576"),
    ],
)
def test_what_cannot_be_sent_is_said(arrays: dict[str, Any], words: str) -> None:
    layouts = Layouts(LIMITS)
    for _ in range(2):
        with pytest.raises(InputError, match=words):
            layouts.of("run", arrays)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (ArrayHead("x", "float32", (17,), 0), r"\[17\] of float32 at 0; .* the 64 bytes"),
        (ArrayHead("x", "float32", (4,), 64), "at 64"),
        (ArrayHead("x", "int8", (1,), 1), "at 1"),
        (ArrayHead("x", "int8", (1,), -64), "at -64"),
        (ArrayHead("x", "int8", (-1, -1), 0), r"\[-1, -1\]"),
        (ArrayHead("x", "int8", (0, 2**62), 0), "4611686018427387904"),
        (ArrayHead("x", "int8", (1,) * 33, 0), "not inside"),
        (ArrayHead("x", "object", (1,), 0), "is of 'object'"),
    ],
)
def test_an_array_outside_its_message_is_damage(array: ArrayHead, words: str) -> None:
    layouts = Layouts(LIMITS)
    for _ in range(2):
        with pytest.raises(DamagedMessage, match=words):
            layouts.read("run", print_arrays([array]), 64)


def test_too_many_arrays_are_damage() -> None:
    heads = [ArrayHead(str(number), "int8", (1,), 64 * number) for number in range(9)]
    with pytest.raises(DamagedMessage, match="9 arrays; the limit is 8"):
        Layouts(LIMITS).read("run", print_arrays(heads), 1024)
