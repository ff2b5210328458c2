import torch
from torch import Tensor
from torch.nn import functional

from banyan.compiler.ir.symbols import evaluate
from tests.compiler.capture.capturing import assert_agrees, captured, interpreted, operations

torch.manual_seed(3)
PICTURE = torch.randn(2, 4, 9, 8)
SOUND = torch.randn(2, 6, 11)
FILTERS = torch.randn(6, 4, 3, 2)
BIAS = torch.randn(6)


def test_convolutions_agree_with_pytorch_for_every_step_border_and_gap() -> None:
    def variants(x: Tensor, weight: Tensor, bias: Tensor) -> list[Tensor]:
        return [
            functional.conv2d(x, weight, bias),
            functional.conv2d(x, weight, stride=2, padding=(1, 2)),
            functional.conv2d(x, weight, bias, padding=1, dilation=(2, 3)),
            functional.conv2d(x, weight[:, :2], bias, stride=(1, 3), groups=2),
            functional.conv2d(x[0], weight, bias),
            functional.conv2d(x, weight[:, :, :1, :1], bias, stride=2),
        ]

    assert_agrees(variants, PICTURE, FILTERS, BIAS)


def test_convolutions_of_sounds_and_volumes_agree_with_pytorch() -> None:
    each = torch.randn(6, 1, 4)
    assert_agrees(lambda x: functional.conv1d(x, each, padding=3, groups=6), SOUND)
    solid, cube = torch.randn(1, 2, 5, 4, 6), torch.randn(3, 2, 2, 3, 2)
    assert_agrees(lambda x: functional.conv3d(x, cube, padding=1, stride=2), solid)


def test_transposed_convolutions_agree_with_pytorch() -> None:
    weight = torch.randn(4, 3, 3, 2)

    def variants(x: Tensor) -> list[Tensor]:
        return [
            functional.conv_transpose2d(x, weight, BIAS[:3]),
            functional.conv_transpose2d(x, weight, stride=2, padding=1, output_padding=1),
            functional.conv_transpose2d(x, weight, stride=(3, 1), padding=2, dilation=2),
            functional.conv_transpose2d(x, weight, groups=2),
        ]

    assert_agrees(variants, PICTURE)


def test_a_batch_of_no_pictures_gives_none() -> None:
    assert_agrees(lambda x: functional.conv2d(x, FILTERS, BIAS), PICTURE[:0])
    assert_agrees(lambda x: functional.conv_transpose2d(x, FILTERS[:4], stride=2), PICTURE[:0])


def test_patches_and_single_places_become_a_product_without_copying_windows() -> None:
    patches = captured(
        lambda x: functional.conv2d(x, torch.ones(5, 4, 3, 4), stride=(3, 4)), PICTURE
    )
    assert "dot" in operations(patches)
    assert not {"concat", "gather", "pad"} & operations(patches)


def test_a_convolution_in_bfloat16_adds_its_bias_before_rounding() -> None:
    arguments = [x.bfloat16() for x in (PICTURE, FILTERS, BIAS)]
    assert_agrees(functional.conv2d, *arguments)


def test_the_length_of_a_convolution_may_be_a_symbol() -> None:
    layer = torch.nn.Conv1d(6, 3, 3, stride=2, padding=1, bias=False)
    frames = torch.export.Dim("frames", min=4, max=64)
    graph = captured(layer, SOUND, dynamic_shapes=({2: frames},))
    (output,) = graph.outputs
    assert [evaluate(d, {"frames": 11}) for d in output.node.shape] == [2, 3, 6]


def test_pools_agree_with_pytorch() -> None:
    def variants(x: Tensor) -> list[Tensor]:
        return [
            *functional.max_pool2d(x, 3, 2, 1, return_indices=True),
            functional.max_pool2d(x, (2, 3), dilation=2),
            functional.max_pool2d(x, 2, ceil_mode=True),
            functional.avg_pool2d(x, 3, 2, 1),
            functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
            functional.avg_pool2d(x, 2, divisor_override=7),
            functional.adaptive_avg_pool2d(x, (3, 2)),
        ]

    assert_agrees(variants, PICTURE)
    holed = PICTURE.clone()
    holed[0, 0, 2, 3] = torch.nan
    holed[1] = -torch.inf
    assert_agrees(lambda x: list(functional.max_pool2d(x, 3, 2, 1, return_indices=True)), holed)
    assert_agrees(lambda x: functional.avg_pool1d(x, 2), SOUND)


def test_nearest_neighbours_agree_with_pytorch() -> None:
    assert_agrees(lambda x: functional.interpolate(x, scale_factor=2), PICTURE)
    assert_agrees(lambda x: functional.interpolate(x, size=(5, 13)), PICTURE)


def test_batch_norm_agrees_with_pytorch() -> None:
    weight, bias = torch.linspace(0.5, 2, 4), torch.linspace(-1, 1, 4)
    mean, variance = torch.linspace(-0.5, 0.5, 4), torch.linspace(0.2, 3, 4)

    def with_kept_statistics(x: Tensor) -> Tensor:
        return functional.batch_norm(x, mean, variance, weight, bias)

    assert_agrees(with_kept_statistics, PICTURE)
    assert_agrees(with_kept_statistics, PICTURE.flatten(2))
    assert_agrees(lambda x: functional.batch_norm(x, mean, variance), PICTURE)
    assert "extern" not in operations(captured(with_kept_statistics, PICTURE))


def test_group_norm_agrees_with_pytorch() -> None:
    weight, bias = torch.randn(2, 4)
    assert_agrees(lambda x: functional.group_norm(x, 2, weight, bias), PICTURE)
    assert_agrees(lambda x: functional.group_norm(x, 4), PICTURE.bfloat16())


def test_a_convolution_of_whole_numbers_stays_a_call_to_pytorch() -> None:
    whole = torch.arange(24).reshape(1, 2, 12)
    weight = torch.ones(1, 2, 3, dtype=torch.int64)
    graph = captured(lambda x: functional.conv1d(x, weight), whole)
    assert "extern" in operations(graph)
    assert interpreted(graph, whole)[0].tolist() == functional.conv1d(whole, weight).tolist()
