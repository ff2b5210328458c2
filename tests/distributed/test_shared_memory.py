"""Memory is lent and comes back when the last array that lies in it is gone."""

import contextlib
import os

import numpy as np
import pytest

from banyan.distributed.shared_memory import Loans, attach, create
from banyan.foundation.errors import DamagedMessage, EnvironmentProblem


def test_what_one_side_writes_the_other_reads_in_place() -> None:
    descriptor, memory = create(8192)
    theirs = attach(descriptor, 8192)
    os.close(descriptor)
    memory[100:105] = b"hello"
    assert theirs[100:105] == b"hello"
    with pytest.raises(TypeError):
        theirs[100:105] = b"jelly"


def test_a_part_comes_back_when_nothing_refers_to_it() -> None:
    descriptor, memory = create(8192)
    with contextlib.closing(os.fdopen(descriptor, "rb")):
        loans = Loans(attach(descriptor, 8192))
    memory[:8] = bytes(range(8))
    region = loans.lend(0, 64)
    other = loans.lend(64, 128)
    deep = region[:8].view(np.int32).reshape(2, 1).T[0, 1:]
    del region
    assert loans.take_returned() == []
    view = deep.data
    del deep
    assert loans.returned_bytes == 0
    assert view.tolist() == [int.from_bytes(bytes([4, 5, 6, 7]), "little")]
    del view
    assert loans.returned_bytes == 64
    del other
    assert loans.take_returned() == [0, 64]
    assert loans.returned_bytes == 0
    assert loans.take_returned() == []


def test_memory_of_another_size_is_refused() -> None:
    descriptor, _ = create(8192)
    with contextlib.closing(os.fdopen(descriptor, "rb")), pytest.raises(DamagedMessage):
        attach(descriptor, 4096)


def test_what_cannot_be_mapped_is_refused() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    with (
        contextlib.closing(os.fdopen(reading, "rb")),
        pytest.raises(DamagedMessage, match="cannot be mapped"),
    ):
        attach(reading, 4096)


def test_more_than_there_can_be_is_said() -> None:
    with pytest.raises(EnvironmentProblem, match="bytes of shared memory cannot be had"):
        create(1 << 62)
