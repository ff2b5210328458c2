import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.compiler.capture.capturing import assert_agrees, captured, interpreted

FLOATS = torch.tensor([[-1.5, -0.25, 0.5], [1.0, 2.0, -3.0]])
OTHER = torch.tensor([[0.5, 2.0, -1.0], [1.0, -4.0, 3.0]])
INTEGERS = torch.tensor([[7, -7, 3], [0, 5, -2]])


def unary(x: Tensor) -> list[Tensor]:
    positive = x.abs() + 0.1
    return [
        -x, x.abs(), x.exp(), positive.log(), positive.sqrt(), positive.rsqrt(), x.tanh(),
        torch.erf(x), x.sin(), x.cos(), x.sigmoid(), x.floor(), x.ceil(), x.sign(),
        positive.reciprocal(), positive.log1p(), x.expm1(), positive.log2(), positive.log10(),
        torch.exp2(x), x.isnan(), (x / 0).isinf(), x.square(), x.pow(2), x.pow(3), x.pow(1),
        x.tan(), x.trunc(), x.round(), (x + 0.25).round(), (x * 1.5).round(),
        positive.pow(0.5), positive.pow(-0.5), positive.pow(1.7), 2.0**x, positive.pow(x),
    ]  # fmt: skip


def activations(x: Tensor) -> list[Tensor]:
    return [
        functional.silu(x), functional.gelu(x), functional.gelu(x, approximate="tanh"),
        functional.relu(x), functional.leaky_relu(x, 0.2), functional.elu(x), functional.selu(x),
        functional.hardtanh(x), functional.hardswish(x), functional.softplus(x), functional.mish(x),
        x.clamp(-1, 1), x.clamp(min=0.1), x.clamp(max=0.1),
    ]  # fmt: skip


def binary(x: Tensor, y: Tensor) -> list[Tensor]:
    return [
        x + y, x - y, x * y, x / y, x + 1, 1 - x, x * 2.5, 3 / (x + 10), torch.maximum(x, y),
        torch.minimum(x, y), torch.add(x, y, alpha=2), torch.sub(x, y, alpha=0.5),
        torch.rsub(x, y, alpha=3), x // y, x % y, x % 0.7, torch.div(x, y, rounding_mode="floor"),
        torch.div(x, y, rounding_mode="trunc"), x == y, x != y, x < y, x <= y, x > y, x >= 1,
        torch.where(x > y, x, y), torch.where(x > 0, x, 0.5), x.masked_fill(y > 0, -1.0),
    ]  # fmt: skip


def whole(x: Tensor, y: Tensor) -> list[Tensor]:
    return [
        x + 2, x + 0.5, x * y, x // 3, x % 3, x / 2, x.float(), x.to(torch.int32), -x, x == 3,
        x & 3, x | 4, x ^ y, ~x, x > y, torch.sqrt(x.abs()), x.bool(),
        torch.div(x, 3, rounding_mode="trunc"), torch.fmod(x, 3), torch.fmod(x, y),
        x.round(), x.trunc(), x.ceil(), x.floor(),
    ]  # fmt: skip


def logic(x: Tensor, y: Tensor) -> list[Tensor]:
    a, b = x > 0, y > 0
    return [
        a & b, a | b, a ^ b, ~a, torch.logical_and(x, b), torch.logical_or(a, y),
        torch.logical_xor(a, b), torch.logical_not(x), a.float(), a + 1, a.to(torch.int64) * y,
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_functions_of_one_tensor_agree_with_pytorch(dtype: torch.dtype) -> None:
    assert_agrees(unary, FLOATS.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_agree_with_pytorch(dtype: torch.dtype) -> None:
    assert_agrees(activations, FLOATS.to(dtype))


def test_functions_of_two_tensors_agree_with_pytorch() -> None:
    assert_agrees(binary, FLOATS, OTHER)


def test_integer_arithmetic_rounds_down_as_in_pytorch() -> None:
    assert_agrees(whole, INTEGERS, torch.tensor([[1, 2, 3], [4, 5, 6]]))


def test_logic_agrees_with_pytorch() -> None:
    assert_agrees(logic, FLOATS, OTHER)


def test_a_scalar_does_not_widen_bfloat16_but_a_wider_tensor_does() -> None:
    narrow = FLOATS.bfloat16()
    assert_agrees(lambda x, y: [x + 1.0, x + y, x * 2, x + y.sum()], narrow, OTHER)


def test_a_tensor_without_dims_counts_as_a_scalar() -> None:
    assert_agrees(lambda x, s: [x * s, s + x, s * s], FLOATS.bfloat16(), torch.tensor(0.5))


def test_an_integer_tensor_with_a_fraction_becomes_float() -> None:
    assert_agrees(lambda x: [x * 0.5, x + True, x / 4], INTEGERS)


def test_shapes_are_broadcast() -> None:
    assert_agrees(lambda x, y: [x + y, y[:, :1] * x], torch.ones(3), OTHER)


def test_whole_quotients_are_exact_beyond_float32() -> None:
    x = torch.tensor([-7, 7, 123456789012345, -123456789012345, 6])
    y = torch.tensor([2, -2, 3, 7, -3])
    assert_agrees(lambda x, y: torch.div(x, y, rounding_mode="trunc"), x, y)


def test_floor_division_of_fractions_is_that_of_the_exact_quotient() -> None:
    x = torch.tensor([1.0, 6.0, -7.5, 5.3, -1.0, 0.0, 1.0, -3.0])
    y = torch.tensor([0.1, 0.1, 2.0, -0.7, 0.1, 3.0, 0.0, 1.0])
    assert_agrees(lambda x, y: x // y, x, y)


def test_functions_near_zero_keep_their_digits() -> None:
    x = torch.tensor([1e-8, -1e-8, 1e-5, -0.0, 3.0, -20.0, 90.0, -0.999])
    assert_agrees(lambda x: [x.expm1() * 1e8, functional.elu(x) * 1e8, x.log1p() * 1e8], x)
    ends = torch.tensor([float("inf"), -1.0, float("nan")])
    assert_agrees(lambda x: [x.expm1(), x.log1p()], ends)


def test_a_bound_may_be_a_size() -> None:
    rows = torch.tensor([0, 9, 2, 9])
    shapes = ({0: torch.export.Dim("n", min=2, max=8)},)
    graph = captured(lambda x: x.clamp(max=x.shape[0] - 1), rows, dynamic_shapes=shapes)
    assert interpreted(graph, rows)[0].tolist() == [0, 3, 2, 3]
    assert interpreted(graph, torch.tensor([7, 1, 1, 1, 1, 0]))[0].tolist() == [5, 1, 1, 1, 1, 0]


def test_factors_of_16_bit_fractions_keep_their_digits() -> None:
    x = torch.arange(1.0, 257.0)

    def scaled(x: Tensor) -> list[Tensor]:
        return [x * 1.01, x / 1.01, 1.003 / x, functional.leaky_relu(-x, 0.3)]

    for dtype in (torch.bfloat16, torch.float16):
        assert_agrees(scaled, x.to(dtype), tolerance=0.0)
    assert_agrees(lambda x: x * 100000, torch.tensor([0.5, -0.25]).half())


def test_the_sign_of_a_flag_is_the_flag() -> None:
    assert_agrees(torch.sign, torch.tensor([True, False]))


def test_the_remainder_of_the_lowest_number_has_its_sign() -> None:
    numbers = torch.tensor([-(2**63), 2**63 - 1, -7, 7, 6])
    assert_agrees(lambda x: [x.fmod(-7), x.fmod(3)], numbers)
