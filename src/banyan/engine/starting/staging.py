"""The step of a decoder on one device, or under a plan on many: opens parts and their workers."""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing

import msgspec

from banyan.compiler.compile import CompileOptions, Executable
from banyan.compiler.ir.graph import Graph
from banyan.devices.device import Device
from banyan.engine.batch_generation import Progress
from banyan.engine.options import EngineOptions
from banyan.engine.stages.addresses import PlaceAddress, addresses_of, neighbours_of
from banyan.engine.stages.carrying import CutModel, cut_model, open_inline, open_together
from banyan.engine.stages.part import NumberedSegment, Part
from banyan.engine.stages.prompts_apart import PromptsApart
from banyan.engine.stages.remote_part import WorkOrder, described
from banyan.engine.stages.staged_program import StagedProgram
from banyan.engine.starting.compiling import compile_model, weight_shapes
from banyan.engine.starting.determinism import instruction_set_of
from banyan.engine.starting.worker_processes import WaitingWorkers
from banyan.engine.starting.workers import open_worker, sockets_between
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings
from banyan.models.loading import ModelDirectory
from banyan.models.quantized_model import QuantizedModel
from banyan.planner.model_shape import ModelShape, model_shape
from banyan.planner.plan import Plan
from banyan.planner.plan_check import require_form
from banyan.planner.plan_file import parse_plan


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
    waiting: WaitingWorkers,
) -> Executable:
    """Compile a decoder's step; without a plan for `device`, else for the devices of the plan.

    Raises:
        InputError: the plan cannot be carried out with this model or these options.
        StageFailed: a worker failed.
    """
    if options.plan is None:
        return compile_model(model, device, settings=settings, say=say, mode=options.mode)
    plan = parse_plan(options.plan)
    require_form(plan, _shape(directory, options, dtype, cache_format))
    model.weights.require(weight_shapes(model.graph))
    cuts = _cuts(model.graph, plan)
    addresses = _addresses(cuts, options)
    say(f"Opening {len(addresses)} devices", 0, 1)

    def open_cut(cut: CutModel) -> StagedProgram:
        order_of = _Orders(cut, addresses, directory, options, dtype, cache_format)

        def open_one(place: str, segments: Sequence[NumberedSegment]) -> Part:
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
            return open_worker(order_of(place), address, segments, options, sockets, waiting)

        with sockets_between(cut.pairs, addresses) as sockets:
            return open_together(cut, open_one, num_in_flight=order_of.num_in_flight)

    with ExitStack() as opened:
        programs = [opened.enter_context(closing(open_cut(cut))) for cut in cuts]
        opened.pop_all()
    return programs[0] if len(programs) == 1 else PromptsApart(model.graph, *programs)


def compile_parts(graph: Graph, options: EngineOptions, *, settings: Settings) -> None:
    """Compile what the devices of this host compute of a plan, for whoever starts later.

    Raises:
        InputError: the plan cannot be carried out with this model.
    """
    assert options.plan is not None, "parts are those of a plan"
    cuts = _cuts(graph, parse_plan(options.plan))
    addresses = _addresses(cuts, options)
    for cut in cuts:
        for place in cut.places:
            if addresses[place].kind != "tcp":
                open_inline(
                    place,
                    cut.of_place(place),
                    addresses[place].device,
                    threads=options.threads,
                    settings=settings,
                    compiling=compile_options(options, settings),
                ).close()


def _cuts(graph: Graph, plan: Plan) -> list[CutModel]:
    """The step cut along the stages, of prompts first where they are apart."""
    cuts = [cut_model(graph, plan)]
    if any(replica.prefill for replica in plan.replicas):
        cuts.insert(0, cut_model(graph, plan, of_prompts=True))
    return cuts


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


class _Orders:
    """What each worker of a plan is told to hold.

    Attributes:
        num_in_flight: steps that can be under way at a time.
    """

    def __init__(
        self,
        cut: CutModel,
        addresses: Mapping[str, PlaceAddress],
        directory: ModelDirectory,
        options: EngineOptions,
        dtype: str,
        cache_format: str,
    ) -> None:
        self._cut, self._addresses, self._directory = cut, addresses, directory
        self._options, self._dtype, self._cache_format = options, dtype, cache_format
        self._workers = frozenset(p for p in cut.places if addresses[p].kind != "inline")
        self._session = secrets.token_hex(16)
        # One process computes one thing after the other, however many devices it has.
        self.num_in_flight = cut.num_in_flight if self._workers else 1

    def __call__(self, place: str) -> WorkOrder:
        """The order for the worker of a place."""
        shards = self._cut.sharded.shards
        return WorkOrder(
            place=place,
            device=self._addresses[place].device,
            model=str(self._directory.path),
            options=msgspec.to_builtins(self._options),
            dtype=self._dtype,
            cache_format=self._cache_format,
            segments=described(self._cut.of_place(place), self._workers),
            shards={name: (s.name, s.axis, s.start, s.stop) for name, s in shards.items()},
            neighbours=neighbours_of(place, self._cut.pairs, self._addresses),
            session=self._session,
            has_several_steps=self.num_in_flight > 1,
        )
