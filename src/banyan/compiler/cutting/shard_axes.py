"""Along which axis weights are cut between ranks, and how a cut goes through an operation. Pure."""

from typing import Any

from banyan.compiler.ir.graph import Graph, Node
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.symbols import fixed, product
from banyan.foundation.errors import InputError

BY_OUTPUTS = frozenset(
    {"q_proj", "k_proj", "v_proj", "q_b_proj", "kv_b_proj", "gate_proj", "up_proj", "w1", "w3"}
)
BY_INPUTS = frozenset({"o_proj", "down_proj", "w2"})

_BLOCKS = frozenset({"scales", "zeros"})

MEMORY_OF = {
    "cache_write": 0,
    "cache_write_quantized": 0,
    "paged_attention": 1,
    "paged_latent_attention": 1,
}
"""Operations that go by heads of the cache -> which argument is the cache."""

HEADS_OF = {
    "cache_write": (0, 1),
    "cache_write_quantized": (0, 1, 2),
    "paged_attention": (0, 1, 2, 6, 7),
    "paged_latent_attention": (0,),
}
"""The arguments of these operations that have heads, all in their second dim."""


def axis_of_weight(node: Node) -> int | None:
    """Along which axis a weight is cut; None for one that every rank has whole."""
    parts = str(node.attr("name")).split(".")
    owner, kind = parts[-2] if len(parts) > 1 else "", parts[-1]
    axis: int | None = None
    if owner in BY_OUTPUTS and kind in {"weight", "bias", *_BLOCKS}:
        axis = max(node.tensor.rank - 2, 0)
    elif owner in BY_INPUTS and kind in {"weight", "order", *_BLOCKS}:
        axis = node.tensor.rank - 1
    # One block holds for all rows, or for the whole depth: also for those of a rank.
    is_one_block = kind in _BLOCKS and axis is not None and node.shape[axis] == 1
    return None if is_one_block else axis


def states_for_all_heads(graph: Graph) -> frozenset[Node]:
    """What latent attention caches: its writes are what the attention reads."""
    readers = (node for node in graph.nodes() if node.op == "paged_latent_attention")
    return frozenset(reader.args[1].args[0] for reader in readers)


def share(node: Node, axis: int, ways: int) -> int:
    """How many places of an input each of `ways` ranks gets.

    Raises:
        InputError: they do not divide.
    """
    size, name = fixed(node.shape[axis]), str(node.attr("name"))
    if size % ways:
        what = "rows or columns"
        if node.attr("role") == "state":
            what = "heads of its cache"
        elif name.rpartition(".")[2] in _BLOCKS:
            what = "groups that share a scale"
        raise InputError(
            f"{name} has {size} {what}, which {ways} devices cannot share evenly; cut its "
            f"layers among a number of devices that divides {size}"
        )
    return size // ways


def linear_of_rank(node: Node, weight: Node, scales: Node, *, by_inputs: bool) -> dict[str, Any]:
    """The attributes of a `quantized_linear` with a rank's part of its weight and scales.

    Raises:
        InputError: a rank would get a part of what shares one scale.
    """
    attrs: dict[str, Any] = dict(node.attrs)
    is_cut = scales.shape != node.args[2].shape
    if not by_inputs:
        _require_whole_blocks(node, fixed(weight.shape[0]), attrs.get("rows", 1), is_cut)
        return attrs
    values = 2 if attrs["format"] == "int4" else 1
    depth = fixed(weight.shape[1]) * values
    _require_whole_blocks(node, depth, attrs["group"], is_cut)
    return attrs if is_cut else {**attrs, "group": min(attrs["group"], depth)}


def _require_whole_blocks(node: Node, size: int, block: int, is_cut: bool) -> None:
    if is_cut and size % block:
        raise InputError(
            f"{node.args[1].attr('name')} has a scale for every {block} and each device would get "
            f"{size}, no multiple of that; cut its layers among fewer devices"
        )


def slice_of(whole: Node, axis: int, rank: int, ways: int) -> Node:
    """A rank's places of a value that every rank has."""
    each = fixed(whole.shape[axis]) // ways
    if whole.op == "expand":
        source = whole.args[0]
        own = axis - (whole.tensor.rank - source.tensor.rank)
        if own < 0 or source.shape[own] == 1:
            return source.expand((*whole.shape[:axis], each, *whole.shape[axis + 1 :]))
    return whole.slice(axis, rank * each, (rank + 1) * each)


def following_axis(node: Node, place: int, axis: int, ways: int) -> int | None:
    """Along which axis the result is cut when argument `place` is cut along `axis` in `ways` parts.

    None where the operation does not keep the cut.
    """
    attrs: dict[str, Any] = dict(node.attrs)
    found: int | None = None
    keeps = node.op in POINTWISE or node.op == "get"
    if keeps or (node.op in {"slice", "concat"} and attrs["axis"] != axis):
        found = axis
    elif node.op == "expand":
        found = axis + node.tensor.rank - node.args[place].tensor.rank
    elif node.op == "permute":
        found = list(attrs["order"]).index(axis)
    elif node.op == "reduce" and axis not in attrs["axes"]:
        found = axis - sum(other < axis for other in attrs["axes"])
    elif node.op == "reshape":
        found = _axis_of_reshaped(node, node.args[place], axis, ways)
    return found


def _axis_of_reshaped(node: Node, arg: Node, axis: int, ways: int) -> int | None:
    before = product(arg.shape[:axis])
    fitting = (i for i in range(node.tensor.rank) if product(node.shape[:i]) == before)
    found = next((i for i in fitting if node.shape[i] != 1), None)
    if found is None:
        return None
    size = node.shape[found]
    return found if isinstance(size, int) and size % ways == 0 else None
