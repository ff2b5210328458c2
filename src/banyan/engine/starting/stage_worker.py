"""The process of one part of a plan: opens its device, reads its weights, keeps its caches.

Started by the engine, perhaps ahead of time, with a socket of the same host, or by `banyan worker`,
which listens for the engine of another host. It ends when the engine closes its channel or dies.
"""

import logging
import os
import socket
import sys
import time
from dataclasses import replace
from functools import partial

import msgspec

from banyan.compiler.cutting.shards import ShardedWeights
from banyan.compiler.executable import WeightSource
from banyan.distributed.greeting import Identity
from banyan.distributed.local import open_local
from banyan.distributed.opening import Conditions
from banyan.distributed.pulse import OwnPulse
from banyan.engine.options import EngineOptions
from banyan.engine.stages.carrying import open_inline
from banyan.engine.stages.meeting import Meeting, Visitor
from banyan.engine.stages.part import LocalPart, NumberedSegment
from banyan.engine.stages.part_service import serve_part
from banyan.engine.stages.remote_part import WorkOrder
from banyan.engine.starting.compiling import open_directory, plain_graph, quantized, say_nothing
from banyan.engine.starting.staging import compile_options
from banyan.engine.starting.worker_processes import wait_for_employment
from banyan.engine.starting.workers import EMPLOYED_TIMING, MEETING_TIMING
from banyan.foundation.errors import ChannelError, InputError
from banyan.foundation.settings import Settings, load_settings
from banyan.models.loading import ModelDirectory

_logger = logging.getLogger("banyan.engine")


def open_ordered(
    settings: Settings,
    device: str,
    order: WorkOrder,
    segments: tuple[NumberedSegment, ...],
) -> tuple[LocalPart, WeightSource]:
    """Compile what an order says, on `device` or, where that is empty, the one it names.

    Raises:
        InputError: the model is not here, or the device is not.
    """
    options = msgspec.convert(order.options, EngineOptions)
    directory = open_directory(
        order.model, replace(options, task="generate"), settings, say_nothing
    )
    named = device or order.device
    if not named:
        raise InputError(f"nobody says which device {order.place} is; start its worker with one")
    part = open_inline(
        order.place,
        segments,
        named,
        threads=options.threads,
        settings=settings,
        compiling=compile_options(options, settings),
    )
    source = _weights(directory, options, order, settings)
    return part, ShardedWeights(source, order.weight_shards())


def _weights(
    directory: ModelDirectory, options: EngineOptions, order: WorkOrder, settings: Settings
) -> WeightSource:
    """The weights under the names of the graph, rounded where the engine rounds them."""
    weights = directory.open_weights()
    if directory.quantisation is None and options.quantization is None:
        return weights
    graph = plain_graph(directory, order.dtype, settings, cache_format=order.cache_format)
    return quantized(directory, weights, graph, options, order.dtype).weights


def run_worker(descriptor: int, place: str) -> int:
    """Wait for work, and compute a part for the engine at the other end of a socket.

    Args:
        descriptor: of the socket to the engine.
        place: the device of the plan.

    Returns:
        The exit code.
    """
    end = socket.socket(fileno=descriptor)
    neighbours = wait_for_employment(end)
    if neighbours is None:
        return 0
    settings = load_settings(os.environ)
    pulse = OwnPulse(time.monotonic())
    identity = Identity(f"the worker of {place}")
    meeting = Meeting(Conditions(identity, MEETING_TIMING, own_pulse=pulse), sockets=neighbours)
    try:
        channel = open_local(end, Conditions(identity, EMPLOYED_TIMING, own_pulse=pulse))
        serve_part(Visitor(channel), partial(open_ordered, settings, ""), meeting.meet, pulse)
    except ChannelError as error:
        _logger.error("the worker of %s ends: %s", place, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_worker(int(sys.argv[1]), sys.argv[2]))
