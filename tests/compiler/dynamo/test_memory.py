import torch

from banyan.compiler.dynamo.memory import ResultMemory


def test_memory_is_used_again_once_nobody_holds_its_tensor() -> None:
    memory = ResultMemory()
    first = memory.tensor((256, 512), torch.bfloat16)
    address = first.data_ptr()
    assert first.shape == (256, 512)
    assert first.dtype is torch.bfloat16
    view = first.flatten()[7:]
    del first
    second = memory.tensor((256, 512), torch.bfloat16)
    assert second.data_ptr() != address
    del view
    assert memory.tensor((512, 128), torch.float32).data_ptr() == address


def test_small_tensors_are_those_of_pytorch() -> None:
    small = ResultMemory().tensor((2, 3), torch.int64)
    assert small.shape == (2, 3)
    assert small.dtype is torch.int64


def test_what_lies_free_is_never_more_than_was_in_use() -> None:
    memory = ResultMemory()
    first = memory.tensor((1 << 20,), torch.uint8)
    del first
    for size in range(1 << 16, 1 << 20, 1 << 14):
        memory.tensor((size,), torch.uint8)
    assert 0 < memory.free_bytes <= 1 << 20
