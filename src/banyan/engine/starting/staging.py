"""The step of a decoder on one device, or under a plan on many: opens parts and their workers."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import msgspec

from banyan.compiler.compile import CompileOptions, Executable
from banyan.devices.device import Device
from banyan.distributed.channel import Channel
from banyan.distributed.greeting import Identity
from banyan.distributed.local import local_sockets, open_local
from banyan.distributed.opening import Conditions
from banyan.distributed.pulse import Timing
from banyan.distributed.secret import read_secret
from banyan.distributed.tcp import Address, connect_tcp
from banyan.engine.batch_generation import Progress
from banyan.engine.options import EngineOptions
from banyan.engine.stages.addresses import PlaceAddress, addresses_of
from banyan.engine.stages.carrying import CutModel, cut_model, open_inline, open_together
from banyan.engine.stages.part import NumberedSegment, Part
from banyan.engine.stages.prompts_apart import PromptsApart
from banyan.engine.stages.remote_part import RemotePart, WorkOrder, described
from banyan.engine.starting.compiling import compile_model, weight_shapes
from banyan.engine.starting.determinism import instruction_set_of
from banyan.foundation.errors import ChannelError, InputError, MessageLate, StageFailed
from banyan.foundation.settings import Settings
from banyan.models.loading import ModelDirectory
from banyan.models.quantized_model import QuantizedModel
from banyan.planner.model_shape import ModelShape, model_shape
from banyan.planner.plan import Plan
from banyan.planner.plan_file import parse_plan

WORKER_TIMING = Timing(opening_seconds=60.0, silent_seconds=2.0)
"""A worker imports NumPy and the compiler before it says hello, on a machine that may be busy."""

_TCP_TIMING = Timing(opening_seconds=5.0, silent_seconds=2.0)
"""One that listens says hello at once; while the network is cut, requests wait for the answer."""

_STOP_SECONDS = 5.0


def compile_step(
    directory: ModelDirectory,
    model: QuantizedModel,
    device: Device,
    options: EngineOptions,
    *,
    settings: Settings,
    say: Progress,
    dtype: str,
    cache_format: str,
) -> Executable:
    """Compile a decoder's step; without a plan for `device`, else for the devices of the plan.

    Raises:
        InputError: the plan cannot be carried out with this model or these options.
        StageFailed: a worker failed.
    """
    if options.plan is None:
        return compile_model(model, device, settings=settings, say=say, mode=options.mode)
    plan = parse_plan(options.plan)
    _refuse(options, plan, _shape(directory, options, dtype, cache_format))
    model.weights.require(weight_shapes(model.graph))
    cuts = [cut_model(model.graph, plan)]
    if any(replica.prefill for replica in plan.replicas):
        cuts.insert(0, cut_model(model.graph, plan, of_prompts=True))
    addresses = _addresses(cuts, options)
    say(f"Opening {len(addresses)} devices", 0, 1)

    def open_one(cut: CutModel, place: str, segments: Sequence[NumberedSegment]) -> Part:
        address = addresses[place]
        if address.kind == "inline":
            return open_inline(
                place,
                segments,
                address.device,
                threads=options.threads,
                settings=settings,
                compiling=compile_options(options, settings),
            )
        order = _order(cut, place, address, directory, options, dtype, cache_format)
        return _open_remote(order, address, segments, options)

    with ExitStack() as opened:
        programs = [
            opened.enter_context(closing(open_together(cut, partial(open_one, cut))))
            for cut in cuts
        ]
        opened.pop_all()
    return programs[0] if len(programs) == 1 else PromptsApart(model.graph, *programs)


def _addresses(cuts: Sequence[CutModel], options: EngineOptions) -> Mapping[str, PlaceAddress]:
    """Where each place of a plan is.

    Raises:
        InputError: a worker that listens is to compute prompts and answers: it serves one program.
    """
    places = [place for cut in cuts for place in cut.places]
    found = addresses_of(tuple(dict.fromkeys(places)), options.plan_workers)
    for place, address in found.items():
        if address.kind == "tcp" and places.count(place) > 1:
            raise InputError(
                f"{place} computes prompts and answers, and one worker that listens serves one of "
                "them; start a second worker and give the prompts its name"
            )
    return found


def compile_options(options: EngineOptions, settings: Settings) -> CompileOptions:
    """How segments are compiled."""
    return CompileOptions(
        cache_directory=settings.cache_directory,
        compiler_command=settings.compiler_command,
        instruction_set=instruction_set_of(options.mode),
    )


def _shape(
    directory: ModelDirectory, options: EngineOptions, dtype: str, cache_format: str
) -> ModelShape:
    return model_shape(
        directory.decoder_configuration(),
        directory.name,
        weight_dtype=options.quantization or dtype,
        cache_dtype=cache_format,
        compute_dtype="float32" if dtype == "float32" else "bfloat16",
    )


def _refuse(options: EngineOptions, plan: Plan, shape: ModelShape) -> None:
    """Refuse what is not carried out under a plan, and plans made for another model.

    Raises:
        InputError: says what.
    """
    if options.has_adapters:
        raise InputError(
            "adapters cannot be used under a plan yet; leave enable_lora and lora_modules out, or "
            "serve without a plan"
        )
    # A plan that a person wrote may leave it empty.
    if plan.model_fingerprint and plan.model_fingerprint != shape.fingerprint:
        raise InputError(
            f"the plan was made for {plan.model} ({plan.model_fingerprint}) and this is "
            f"{shape.name} ({shape.fingerprint}): shapes or dtypes differ; plan again for this "
            "model"
        )


def _order(
    cut: CutModel,
    place: str,
    address: PlaceAddress,
    directory: ModelDirectory,
    options: EngineOptions,
    dtype: str,
    cache_format: str,
) -> WorkOrder:
    shards = cut.sharded.shards
    return WorkOrder(
        place=place,
        device=address.device,
        model=str(directory.path),
        options=msgspec.to_builtins(options),
        dtype=dtype,
        cache_format=cache_format,
        segments=described(cut.of_place(place)),
        shards={name: (s.name, s.axis, s.start, s.stop) for name, s in shards.items()},
    )


def _open_remote(
    order: WorkOrder,
    address: PlaceAddress,
    segments: Sequence[NumberedSegment],
    options: EngineOptions,
) -> RemotePart:
    try:
        part = _connect(order.place, address, options)
    except (ChannelError, MessageLate) as error:
        raise StageFailed(
            f"the worker of {order.place} cannot be used: {error}", place=order.place
        ) from error
    try:
        part.open(order, segments)
    except BaseException:
        part.close()
        raise
    return part


def _connect(place: str, address: PlaceAddress, options: EngineOptions) -> RemotePart:
    identity = Identity(f"the engine, for {place}")
    if address.kind == "process":
        return _start_worker(place, Conditions(identity, WORKER_TIMING))
    if options.plan_secret is None:
        raise InputError(
            f"{place} is at tcp://{address.host}:{address.port}, and workers of other hosts share "
            "a secret; give plan_secret, a file that holds it"
        )
    secret = read_secret(Path(options.plan_secret))
    there = Address(address.host, address.port)
    channel = connect_tcp(there, secret, Conditions(identity, _TCP_TIMING))
    return RemotePart(place, channel, lambda _: None)


def _start_worker(place: str, conditions: Conditions) -> RemotePart:
    """Start a process that computes a part."""
    ours, theirs = local_sockets()
    with theirs:
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "banyan.engine.starting.stage_worker",
                str(theirs.fileno()),
                place,
            ],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            # A Ctrl-C in the terminal is for the one who serves, who ends its workers.
            start_new_session=True,
        )

    def see_off(answered: bool) -> None:
        # One that was stopped or hangs would be waited for in vain, and requests wait meanwhile.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS if answered else 0)
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    try:
        channel: Channel = open_local(ours, conditions)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return RemotePart(place, channel, see_off)
