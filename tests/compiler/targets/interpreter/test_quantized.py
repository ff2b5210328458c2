import ml_dtypes
import numpy as np

from banyan.compiler.targets.interpreter.quantized import quantized_linear, unpack

PLAIN = {"activation": "plain", "group": 2, "rows": 1}


def test_two_values_come_out_of_a_byte_low_first() -> None:
    packed = np.array([[0x21, 0xF3]], np.uint8)
    assert unpack((packed,), {"bits": 4}).tolist() == [[1, 2, 3, 15]]


def test_each_group_has_its_scale() -> None:
    x = np.eye(4, dtype=np.float32)
    weight = np.array([[1, -2, 3, 4]], np.int8)
    scales = np.array([[0.5, 10]], np.float32)
    found = quantized_linear((x, weight, scales), {**PLAIN, "format": "int8"})
    assert found.T.tolist() == [[0.5, -1.0, 30.0, 40.0]]


def test_values_of_four_bits_lie_around_eight_or_their_zero() -> None:
    x = np.eye(4, dtype=np.float32)
    weight = np.array([[0x98, 0x0F]], np.uint8)
    scales = np.array([[2, 10]], np.float32)
    plain = quantized_linear((x, weight, scales), {**PLAIN, "format": "int4"})
    assert plain.T.tolist() == [[0.0, 2.0, 70.0, -80.0]]
    zeros = np.array([[7, 15]], np.uint8)
    moved = quantized_linear((x, weight, scales, zeros), {**PLAIN, "format": "int4"})
    assert moved.T.tolist() == [[2.0, 4.0, 0.0, -150.0]]


def test_blocks_that_end_early_have_a_scale() -> None:
    x = np.eye(3, dtype=np.float32)
    weight = np.ones((3, 3), ml_dtypes.float8_e4m3fn)
    scales = np.array([[1, 2], [3, 4]], np.float32)
    found = quantized_linear((x, weight, scales), {**PLAIN, "format": "fp8", "rows": 2})
    assert found.T.tolist() == [[1, 1, 2], [1, 1, 2], [3, 3, 4]]


def test_rows_are_rounded_half_to_even() -> None:
    x = np.array([[127, 0.5, 1.5, -2.5], [0, 0, 0, 0]], np.float32)
    attrs = {"format": "int8", "group": 4, "rows": 1, "activation": "int8"}
    weight, scales = np.eye(4, dtype=np.int8), np.ones((4, 1), np.float32)
    found = quantized_linear((x, weight, scales), attrs)
    assert found.tolist() == [[127, 0, 2, -2], [0, 0, 0, 0]]
