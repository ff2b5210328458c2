"""PyTorch's own samples for its operations: graphs to compile, and answers to compare with."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree

from banyan.compiler.capture.arrays import to_array
from banyan.compiler.capture.export import Names, capture_module
from banyan.compiler.ir.graph import Graph, Output
from banyan.compiler.report import ExternUse, extern_uses
from banyan.foundation.errors import GraphError

Array = Any

DTYPES = (torch.float32, torch.bfloat16, torch.int64)
RELATIVE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""Tolerances by the element type of the sample: of a value, and of the largest value."""
KNOWN = frozenset((*DTYPES, torch.float16, torch.int32, torch.int8, torch.uint8, torch.bool))
LARGEST_SAMPLE = 20_000
"""Elements of arguments and results beyond which a sample is left out."""

UNCOMPARABLE = frozenset(
    # Random, uninitialised, with an answer that is not unique, or for GPUs only.
    "bernoulli cauchy exponential geometric log_normal multinomial normal nn.functional.dropout"
    " nn.functional.dropout2d nn.functional.dropout3d nn.functional.alpha_dropout"
    " nn.functional.feature_alpha_dropout nn.functional.rrelu uniform rand_like randint_like"
    " randn_like randint randn empty empty_like empty_permuted empty_strided new_empty"
    " new_empty_strided torch.ops.aten._safe_softmax.default"
    " nn.functional.fractional_max_pool2d nn.functional.fractional_max_pool3d"
    " svd_lowrank pca_lowrank jiterator_unary jiterator_binary jiterator_2inputs_2outputs"
    " jiterator_4inputs_with_extra_args jiterator_binary_return_by_ref".split()
)

ORDERING = frozenset({"topk", "sort", "argsort"})
"""Which of equal values comes first is anybody's choice unless a stable order is asked for."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of one operation.

    Attributes:
        entry: name of the operation.
        name: entry, element type and number.
        module: calls the operation on tensors.
        answers: what PyTorch gives.
    """

    entry: str
    name: str
    dtype: torch.dtype
    module: torch.nn.Module
    tensors: tuple[torch.Tensor, ...]
    answers: Sequence[Array]


@dataclass(frozen=True, slots=True)
class Captured:
    """Samples in one graph: those that PyTorch and the compiler could trace."""

    samples: Sequence[Sample]
    graph: Graph

    def arguments(self) -> dict[str, Array]:
        """By the names of the graph's inputs."""
        tensors = [tensor for sample in self.samples for tensor in sample.tensors]
        return {f"argument.{i}": to_array(tensor) for i, tensor in enumerate(tensors)}

    def parts(self) -> Iterator[tuple[Sample, tuple[Output, ...]]]:
        """Each sample with its outputs."""
        outputs = iter(self.graph.outputs)
        for sample in self.samples:
            yield sample, tuple(next(outputs) for _ in sample.answers)

    def externs(self) -> Iterator[tuple[Sample, tuple[ExternUse, ...]]]:
        """What of each sample stays a call to PyTorch."""
        for sample, outputs in self.parts():
            yield sample, extern_uses(Graph("sample", (), outputs))

    def mistakes(self, found: Mapping[str, Array]) -> Iterator[tuple[Sample, str]]:
        """What is wrong with the answers of a run, in words."""
        for sample, outputs in self.parts():
            wrong = difference(sample, [found[output.name] for output in outputs])
            if wrong is not None:
                yield sample, wrong


class _Call(torch.nn.Module):
    """An operation as a module: the tensors are arguments, everything else is fixed."""

    def __init__(self, operation: Any, structure: Any, fixed: Sequence[Any]) -> None:
        super().__init__()
        self.operation, self.structure, self.fixed = operation, structure, fixed

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        leaves = [next(given) if f is None else f[0] for f in self.fixed]
        (first, rest), keywords = pytree.tree_unflatten(leaves, self.structure)
        found = self.operation(first, *rest, **keywords)
        return [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, torch.Tensor)]


def entries() -> list[Any]:
    """Every entry with an answer that can be compared."""
    found = {entry.name + entry.variant_test_name: entry for entry in op_db}
    return [entry for entry in found.values() if entry.name not in UNCOMPARABLE]


def samples(entry: Any, dtype: torch.dtype, count: int) -> Iterator[Sample]:
    """Up to `count` samples of an operation, spread over those that PyTorch has.

    Those that are large, that PyTorch refuses, or whose types the compiler lacks are left out.
    """
    if dtype not in entry.dtypes:
        return
    torch.manual_seed(0)
    found = list(entry.sample_inputs("cpu", dtype, requires_grad=False))
    title = entry.name + ("." if entry.variant_test_name else "") + entry.variant_test_name
    for number, sample in enumerate(found[:: max(1, len(found) // count)][:count]):
        leaves, structure = pytree.tree_flatten(((sample.input, sample.args), sample.kwargs))
        tensors = tuple(leaf.detach() for leaf in leaves if isinstance(leaf, torch.Tensor))
        fixed = [None if isinstance(leaf, torch.Tensor) else (leaf,) for leaf in leaves]
        module = _Call(entry.op, structure, fixed)
        try:
            with torch.no_grad():
                answers = module(*(tensor.clone() for tensor in tensors))
        except (RuntimeError, ValueError, TypeError, NotImplementedError):
            continue
        every = (*tensors, *answers)
        known = all(t.dtype in KNOWN and t.layout is torch.strided for t in every)
        is_free = entry.name in ORDERING and not sample.kwargs.get("stable")
        if is_free and len(set(tensors[0].flatten().tolist())) < tensors[0].numel():
            continue
        if known and tensors and answers and sum(t.numel() for t in every) <= LARGEST_SAMPLE:
            name = f"{title} {str(dtype).removeprefix('torch.')} {number}"
            yield Sample(title, name, dtype, module, tensors, [to_array(a) for a in answers])


class _Many(torch.nn.Module):
    def __init__(self, chosen: Sequence[Sample]) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleList(sample.module for sample in chosen)
        self.counts = [len(sample.tensors) for sample in chosen]

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        counted = zip(self.parts, self.counts, strict=True)
        return [part(*(next(given) for _ in range(count))) for part, count in counted]


def capture(chosen: Sequence[Sample], refused: dict[str, str]) -> Iterator[Captured]:
    """Samples in as few graphs as possible; the reasons of those that are refused are noted."""
    tensors = tuple(tensor for sample in chosen for tensor in sample.tensors)
    names = Names(arguments=[f"argument.{i}" for i in range(len(tensors))])
    try:
        graph = capture_module(_Many(chosen), tensors, name="samples", names=names)
    except GraphError as error:
        if len(chosen) == 1:
            refused[chosen[0].name] = str(error)
            return
        middle = len(chosen) // 2
        yield from capture(chosen[:middle], refused)
        yield from capture(chosen[middle:], refused)
    else:
        yield Captured(chosen, graph)


def difference(sample: Sample, found: Sequence[Array]) -> str | None:
    """What is wrong with an answer, in words; None for nothing."""
    for number, (left, right) in enumerate(zip(found, sample.answers, strict=True)):
        if (left.shape, left.dtype) != (right.shape, right.dtype):
            kinds = f"{left.dtype}{left.shape}, not {right.dtype}{right.shape}"
            return f"{sample.name}: result {number} is {kinds}"
        a, b = (np.asarray(v, np.float64) for v in (left, right))
        if right.dtype.kind in "iub":
            wrong = left != right
        else:
            share = RELATIVE.get(sample.dtype, 1e-4)
            finite = np.abs(b[np.isfinite(b)])
            bound = share * (np.abs(b) + (finite.max() if finite.size else 0.0)) + 1e-6
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            with np.errstate(invalid="ignore"):
                wrong = ~(same | (np.abs(a - b) <= bound))
        if wrong.any():
            return f"{sample.name}: result {number} has {a[wrong][:4]}, not {b[wrong][:4]}"
    return None


def run(
    captured: Captured, refused: dict[str, str], calculate: Callable[[Captured], dict[str, Array]]
) -> Iterator[tuple[Captured, dict[str, Array]]]:
    """`calculate` for a graph, and for ever smaller parts of it where the compiler refuses it."""
    try:
        found = calculate(captured)
    except GraphError as error:
        if len(captured.samples) == 1:
            refused[captured.samples[0].name] = str(error)
            return
        middle = len(captured.samples) // 2
        for part in (captured.samples[:middle], captured.samples[middle:]):
            for smaller in capture(part, refused):
                yield from run(smaller, refused, calculate)
    else:
        yield captured, found
