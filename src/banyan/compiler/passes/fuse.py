"""Which values lie in memory between kernels: the roots of groups.

Everything else is computed where it is used. A matrix product draws its pointwise consumers into
its own kernel (the epilogue); other roots draw in what they read, as long as nothing costly is
computed twice.
"""

from dataclasses import dataclass

from banyan.compiler.ir.attributes import integer, integers
from banyan.compiler.ir.graph import Graph, Node
from banyan.compiler.ir.groups import group_of, users_of
from banyan.compiler.ir.match import fill_value
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.packing import is_joined_weights, stored_weight
from banyan.compiler.ir.symbols import product, upper_bound
from banyan.compiler.tiling.options import TileOptions

LEAVES = frozenset({"input", "data"})
FREE = frozenset({"constant", "iota", "size"})
MOVEMENT = frozenset({"reshape", "expand", "permute", "slice", "concat", "pad"})
PRODUCTS = frozenset({"dot", "packed_dot", "quantized_dot"})
LINEARS = frozenset({"packed_dot", "quantized_dot"})
PROGRAMS = frozenset(
    {
        "paged_attention",
        "paged_latent_attention",
        "attention_forward",
        "cache_write",
        "cache_write_quantized",
        "grouped_dot",
        "low_rank",
        "group_rows",
        "scatter",
        "window_panels",
    }
)
OPAQUE = PROGRAMS | {"extern", "get"}
TRANSCENDENTAL = frozenset("exp log tanh erf sin cos sigmoid pow".split())
LOOKUPS = frozenset({"gather", "take_along"})
REDUCTIONS = frozenset({"reduce", "cumsum", "quantize_rows"})

CHEAP = 6
"""Work per element up to which computing twice beats writing and reading memory."""

OF_A_ROW = 100
"""Work per element of a reduction; pointwise chains stay below it."""

LARGEST_EPILOGUE = 24
"""Pointwise nodes behind a product that are searched for its epilogue."""

LARGEST_GROUP = 60
"""Longest chain of nodes in one kernel."""

ROW_OF_SCORES = 512
"""Columns up to which a product is one block wide, so that its left side is computed once."""

BETWEEN_PRODUCTS = POINTWISE | MOVEMENT | REDUCTIONS | {"dot"}


@dataclass(frozen=True, slots=True)
class Fusion:
    """Attributes:
    memory: nodes that lie in memory (inputs, constants, roots, results of opaque operations).
    products: root of an epilogue -> the product it belongs to.
    siblings: root -> the roots that one kernel computes together, itself among them.
    """

    memory: frozenset[Node]
    products: dict[Node, Node]
    siblings: dict[Node, tuple[Node, ...]]


def plan_fusion(graph: Graph, options: TileOptions | None = None) -> Fusion:
    """Decide for every node of a stage-1 graph whether it lies in memory."""
    longest = (options or TileOptions()).longest_scores
    planner = _Planner(graph, longest, join_siblings=True)
    plan = planner.plan()
    # A kernel of siblings runs where the first of them stands; all it reads must come before.
    if planner.is_in_order(plan):
        return plan
    return _Planner(graph, longest, join_siblings=False).plan()


def is_view(node: Node, memory: "frozenset[Node] | set[Node]") -> bool:
    """A reshape of something in memory costs nothing."""
    while node.op == "reshape":
        node = node.args[0]
    return node in memory


class _Planner:
    def __init__(self, graph: Graph, longest_scores: int, *, join_siblings: bool) -> None:
        self.longest_scores = longest_scores
        self.join_siblings = join_siblings
        self.leader: dict[Node, Node] = {}
        self.graph = graph
        self.order = graph.nodes()
        self.position = {node: i for i, node in enumerate(self.order)}
        self.users = users_of(self.order)
        self.results = {output.node for output in graph.outputs}
        self.memory: set[Node] = {
            n for n in self.order if n.op in LEAVES | OPAQUE or is_joined_weights(n)
        }
        self.products: dict[Node, Node] = {}
        self.interior: set[Node] = set()
        self.root_of: dict[Node, frozenset[Node]] = {}
        self.repeats: dict[Node, float] = {}
        self.cost: dict[Node, int] = {}
        self.depth: dict[Node, int] = {}

    def plan(self) -> Fusion:
        for node in self.order:
            if node.op == "dot" and self._narrow(node):
                self._draw_in_left_side(node)
        for node in self.order:
            if node.op in PRODUCTS and node not in self.interior:
                self._draw_in_epilogue(node)
        for node in self.order:
            self._estimate(node)
        for node in reversed(self.order):
            self._decide(node)
        return Fusion(frozenset(self.memory), self.products, self._siblings())

    def _siblings(self) -> dict[Node, tuple[Node, ...]]:
        families: dict[Node, list[Node]] = {}
        for node in self.order:
            if node in self.leader:
                families.setdefault(self._leader(node), []).append(node)
        return {node: tuple(family) for family in families.values() for node in family}

    def _leader(self, root: Node) -> Node:
        while self.leader.get(root, root) is not root:
            root = self.leader[root]
        return root

    def is_in_order(self, plan: Fusion) -> bool:
        """Does every kernel of siblings read only what stands before the first of them?"""
        for family in dict.fromkeys(plan.siblings.values()):
            first = min(self.position[node] for node in family)
            _, read = group_of(family, plan.memory.__contains__)
            if any(self.position[node] >= first for node in read):
                return False
        return True

    def _join(self, roots: frozenset[Node]) -> bool:
        """Let one kernel compute several roots, if they are rows of the same grid."""
        rows = {root.shape[:-1] for root in roots if root.op not in OPAQUE | LEAVES}
        joined = self.join_siblings and len(rows) == 1 and () not in rows
        if not joined or any(r in self.products or r.op in OPAQUE | LEAVES for r in roots):
            return False
        leader = min((self._leader(root) for root in roots), key=self.position.__getitem__)
        for root in roots:
            self.leader[self._leader(root)] = leader
            self.leader.setdefault(root, leader)
        return True

    def _draw_in_left_side(self, product: Node) -> None:
        """A product inside the left side of a narrow product, with only pointwise operations and
        reductions between them (a softmax), is computed in the same kernel.
        """
        left = product.args[0]
        cone, pending = {product}, [left]
        while pending:
            # Users come after what they use, so the latest is looked at first.
            node = max(pending, key=self.position.__getitem__)
            pending.remove(node)
            inside = set(self.users[node]) <= cone and node not in self.results
            if node.op not in BETWEEN_PRODUCTS or not inside:
                continue
            if node.op == "dot":
                if upper_bound(node.shape[-1]) > self.longest_scores:
                    return
                cone.add(node)
                continue
            cone.add(node)
            pending.extend(a for a in node.args if a not in cone and a not in pending)
        if any(node.op == "dot" for node in cone - {product}):
            self.interior |= cone - {product}

    def _draw_in_epilogue(self, root: Node) -> None:
        """Follow pointwise consumers of one shape; stop at the last one all paths lead to."""
        group, best = {root}, {root}
        frontier, final = root, root
        while len(group) < LARGEST_EPILOGUE and frontier not in self.results:
            candidates = {u for n in group for u in self.users[n]} - group
            fitting = [u for u in candidates if self._may_follow(u, root)]
            if not fitting or len(fitting) < len(candidates):
                break
            frontier = min(fitting, key=self.position.__getitem__)
            group.add(frontier)
            unfinished = self._widens(frontier) and frontier not in self.results
            if self._only_exit(group, frontier) and not unfinished:
                final, best = frontier, set(group)
        self.products[final] = root
        self.memory.add(final)
        self.interior |= best
        if root.op in LINEARS:
            self._join_twins(root, best)

    def _join_twins(self, root: Node, group: set[Node]) -> None:
        """A linear of the same rows that only this epilogue reads joins its kernel.

        So a gated feed-forward block is one kernel: neither half goes through memory.
        """
        cone, twins = set(group), set()
        pending = [arg for node in group for arg in node.args]
        while pending:
            # Users come after what they use, so the latest is looked at first.
            node = max(pending, key=self.position.__getitem__)
            pending = [other for other in pending if other is not node]
            fits = node.shape == root.shape and node not in self.interior | self.results | cone
            if not fits or not set(self.users[node]) <= cone:
                continue
            if node.op == root.op and node.args[0] is root.args[0]:
                cone.add(node)
                twins.add(node)
            elif node.op in POINTWISE:
                cone.add(node)
                pending.extend(node.args)
        between = twins.copy()
        for node in self.order:
            if node in cone - group and between.intersection(node.args):
                between.add(node)
        self.interior |= between

    def _may_follow(self, node: Node, root: Node) -> bool:
        return node.op in POINTWISE and node.shape == root.shape and node not in self.interior

    def _only_exit(self, group: set[Node], last: Node) -> bool:
        inner = group - {last}
        return not inner & self.results and all(set(self.users[n]) <= group for n in inner)

    def _estimate(self, node: Node) -> None:
        below = [a for a in node.args if a not in self.memory]
        own = 1
        if node.op in MOVEMENT | FREE or node in self.memory:
            own = 0
        elif node.op in TRANSCENDENTAL | LOOKUPS:
            own = 8
        elif node.op in REDUCTIONS:
            own = OF_A_ROW
        elif node.op in PRODUCTS:
            own = 1000
        self.cost[node] = min(10_000, own + sum(self.cost[a] for a in below))
        self.depth[node] = 1 + max((self.depth[a] for a in below), default=0)
        if self.depth[node] % LARGEST_GROUP == 0:
            self.memory.add(node)

    def _decide(self, node: Node) -> None:
        if node in self.memory or (node.op in FREE and node not in self.results):
            self._found(node)
            return
        demanded = self._is_list_of_reductions(node) or any(
            self._demands_memory(user, node) for user in self.users[node]
        )
        if demanded or (node in self.results and not is_view(node, self.memory)):
            self.memory.add(_behind_reshapes(node))
        else:
            self._share(node)
        self._found(node)

    def _share(self, node: Node) -> None:
        users = self.users[node]
        roots = frozenset(self._leader(r) for user in users for r in self.root_of[user])
        repeat = max((self._repeat(user, node) for user in users), default=1.0)
        self.root_of[node], self.repeats[node] = roots, repeat
        if node.op in MOVEMENT or self._widens(node):
            return
        costly = self.cost[node] > CHEAP
        in_block = any(root in self.products and node not in self.interior for root in roots)
        # What needs whole rows would be computed anew for every block of columns.
        needs_rows = self.cost[node] >= OF_A_ROW
        blocked = in_block and needs_rows and not self._left_of_narrow_product(node)
        shared = len(roots) > 1 and not (repeat <= 1 and costly and self._join(roots))
        if costly and (shared or repeat > 1 or blocked):
            self.memory.add(node)

    def _is_list_of_reductions(self, node: Node) -> bool:
        """The values or places that a `topk` found: computed once for all who read them."""
        return node.op == "concat" and all(
            arg.op == "reshape" and arg.args[0].op == "reduce" for arg in node.args
        )

    def _widens(self, node: Node) -> bool:
        return node.op == "cast" and node.dtype.num_bytes > node.args[0].dtype.num_bytes

    def _found(self, node: Node) -> None:
        if node in self.memory:
            self.root_of[node], self.repeats[node] = frozenset({node}), 1.0
        elif node not in self.root_of:
            self.root_of[node], self.repeats[node] = frozenset(), 1.0

    def _demands_memory(self, user: Node, node: Node) -> bool:
        if user.op == "grouped_dot" and stored_weight(node) is not node:
            return False
        if user.op == "scatter" and node is user.args[0] and fill_value(node) is not None:
            return False
        if user.op in OPAQUE | LINEARS:
            return True
        if user.op == "reshape":
            # A reshape that must be in memory is a view; its source is what lies there.
            return is_view(user, self.memory) and user in self.results
        if user.op == "gather":
            return node is user.args[0] and self.cost[node] > 0 and self._grows(user)
        if user.op == "take_along":
            return node is user.args[0] and self.cost[node] > 0
        if user.op == "concat":
            return user.attr("axis") != user.tensor.rank - 1 and self.cost[node] > CHEAP
        if user.op != "dot" or self._only_moves(node):
            return False
        narrow = user.args[0] is node and self._narrow(user)
        return not (narrow and self.users[node] == [user])

    def _grows(self, gather: Node) -> bool:
        rows = upper_bound(gather.args[1].tensor.num_elements)
        return rows > upper_bound(gather.args[0].shape[integer(gather, "axis")])

    def _narrow(self, dot: Node) -> bool:
        columns = dot.shape[-1]
        return isinstance(columns, int) and columns <= ROW_OF_SCORES

    def _left_of_narrow_product(self, node: Node) -> bool:
        """Is the node part of the left side that a narrow product draws in?"""
        while True:
            users = self.users[node]
            dots = [u for u in users if u.op == "dot"]
            if dots:
                return len(users) == 1 and users[0].args[0] is node and self._narrow(users[0])
            inside = [u for u in users if u not in self.memory]
            if not inside:
                return False
            node = max(inside, key=self.position.__getitem__)

    def _only_moves(self, node: Node) -> bool:
        while node.op in MOVEMENT | {"cast"} and len(node.args) == 1:
            node = node.args[0]
        return node in self.memory or node.op in FREE

    def _repeat(self, user: Node, node: Node) -> float:
        """How often each element of `node` is computed for the kernels behind `user`."""
        base = 1.0 if user in self.memory else self.repeats[user]
        if user.op == "expand":
            source = (1,) * (user.tensor.rank - node.tensor.rank) + node.shape
            pairs = list(zip(source, user.shape, strict=True))[:-1]
            grown = product(tuple(want for have, want in pairs if have != want))
            return base * max(1, upper_bound(grown))
        if user.op == "permute" and integers(user, "order")[-1:] != (node.tensor.rank - 1,):
            return base * max(1, upper_bound(node.shape[-1]))
        if user.op == "reshape":
            return base * max(1.0, _row_length(node) / _row_length(user))
        return base


def _row_length(node: Node) -> int:
    """The last size that is not 1."""
    sizes = [upper_bound(size) for size in node.shape if size != 1]
    return max(1, sizes[-1]) if sizes else 1


def _behind_reshapes(node: Node) -> Node:
    while node.op == "reshape":
        node = node.args[0]
    return node
