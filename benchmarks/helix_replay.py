"""Helix's placements and ours played through one event simulator, with KV and latency limits.

    python -m benchmarks.helix DIRECTORY --out OURS
    python -m benchmarks.helix_replay DIRECTORY OURS PUBLISHED [--seconds 600]

DIRECTORY holds the instances and OURS our placements (see `benchmarks.helix`). PUBLISHED holds the
solutions of Helix's artifact under the names of the instances, ending in ".sol"; only their lines
`start_NODE LAYER` and `hold_NODE_LAYERS 1` are read, and the largest flow through them is found
anew. None of these files are in this repository.

The objective of both is a flow in tokens per second. It knows nothing of prompts, of the cache, of
how long a token is on its way. So a third placement is played, which the planner makes for the mean
lengths of the requests and the limit (`benchmarks.helix_plans`).

Requests come and go: each takes a path by weighted turns over the flow and reserves its cache on
every node of the path, past nodes that are full; one that finds no path waits. A node computes what
waits there, a micro-batch at a time, answers before prompts as our engine does: a pass takes as
long as reading its layers, or as the rate of the instance allows, whichever is longer; prompt
tokens cost arithmetic. `--chunk` is the most prompt tokens of a pass: longer prompts go in pieces,
and answers pass between them. With 2048 every prompt is whole.

Three runs each: as many requests as caches hold; the most with which the mean time per output token
stays under 0.6 s, and under 0.45 s. Cards are described, not measured.
"""

import argparse
import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

from banyan.planner.simulation.trace import Trace, made_trace
from benchmarks.helix import Instance, Placement, faults_of, objective, read_instance
from benchmarks.helix_cards import (
    CACHE_BYTES,
    CARDS,
    COMPUTE_SHARE,
    LAYER_BYTES,
    LENGTHS,
    LINK_BYTES_PER_SECOND,
    LINK_SECONDS,
    MEMORY_SHARE,
    Card,
    rate_of,
)
from benchmarks.helix_placements import published_placement, read_placement
from benchmarks.helix_plans import planned
from benchmarks.helix_requests import Node, Piece, Request

TOKEN_BYTES = 2 * 8192
LIMITS = (None, 0.6, 0.45)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Answers in a second, mean and 95th percentile of the time per token, sequences, hops."""

    tokens_per_second: float
    tpot: float
    tpot_p95: float
    sequences: float
    hops: float
    busiest: float


def parts_of(placement: Placement) -> dict[int, int]:
    """Node -> its part of the placement: between two parts nothing flows."""
    part = {node: node for node in placement.ranges}
    for source, target in placement.flow:
        if source.isdigit() and target.isdigit():
            old, new = part[int(source)], part[int(target)]
            part = {node: new if each == old else each for node, each in part.items()}
    return part


class Replay:
    """Plays requests through a placement.

    Args:
        instance: rates of its nodes.
        placement: ranges and flow.
        cards: of the types of nodes.
        requests: in the order in which they are let in.
        most_sequences: under way at once.
        chunk: most prompt tokens of a pass.
    """

    def __init__(
        self,
        instance: Instance,
        placement: Placement,
        cards: Sequence[Card],
        requests: Sequence[Request],
        most_sequences: float,
        chunk: int = 2048,
    ) -> None:
        self._chunk = chunk
        self._placement = placement
        self.nodes = {}
        for name, (_, layers) in placement.ranges.items():
            kind = instance.nodes[name]
            free = cards[kind].memory * MEMORY_SHARE - layers * LAYER_BYTES
            room = max(0.0, free) / (layers * CACHE_BYTES)
            rate = rate_of(instance, kind, layers)
            self.nodes[name] = Node(cards[kind], layers, rate, room)
        self._most = most_sequences
        self._turns: dict[tuple[str, str], float] = {}
        self._edges = defaultdict[str, list[tuple[str, str]]](list)
        for edge in placement.flow:
            self._edges[edge[0]].append(edge)
        self._part = parts_of(placement)
        self._inside = Counter[int]()
        self._events: list[tuple[float, int, int, list[Piece]]] = []
        self._number = 0
        self._requests = requests
        self._waiting = deque(range(len(requests)))
        self._under_way = 0
        self._finished: list[Request] = []
        self._tokens: list[float] = []
        self._times: list[float] = []
        self._weight = self._hops = 0.0

    def run(self, seconds: float, warm_up: float) -> Outcome:
        """Keep the placement full for `seconds`; what came in `warm_up` does not count."""
        now, last = 0.0, 0.0
        self._admit(now)
        while self._events:
            now, _, node, items = heapq.heappop(self._events)
            if now > seconds:
                break
            if now > warm_up:
                self._weight += self._under_way * (now - max(last, warm_up))
            last = now
            if items and node >= 0:
                self._enter(node, items, now)
            elif node < 0:
                self._leave(-node - 1, items, now)
        counted = sum(1 for at in self._tokens if at > warm_up)
        times = np.array([t for at, t in self._gaps() if at > warm_up])
        span = seconds - warm_up
        return Outcome(
            counted / span,
            float(times.mean()) if len(times) else float("nan"),
            float(np.percentile(times, 95)) if len(times) else float("nan"),
            self._weight / span,
            self._hops / max(1, len(self._requests) - len(self._waiting)),
            max(node.busy_seconds for node in self.nodes.values()) / seconds,
        )

    def _gaps(self) -> Sequence[tuple[float, float]]:
        """When a request stopped being watched, and its seconds a token until then."""
        done = [(at, r) for at, r in zip(self._times, self._finished, strict=True)]
        return [(at, (at - r.first) / (r.written - 1)) for at, r in done if r.written > 8]

    def _admit(self, now: float) -> None:
        first: dict[int, list[Piece]] = {}
        while self._waiting and self._under_way < self._most:
            number = self._waiting[0]
            request = self._requests[number]
            turns = dict(self._turns)
            size = request.prompt + request.answer
            path = self._path(turns, size)
            if not path:
                break
            self._turns = turns
            self._waiting.popleft()
            self._under_way += 1
            self._hops += len(path)
            request.path = path
            self._inside[self._part[path[0][0]]] += 1
            for name, _ in path:
                self.nodes[name].room -= size
            first.setdefault(path[0][0], []).extend(self._pieces(number))
        for name, items in first.items():
            self._send(now, name, items)

    def _path(self, turns: dict[tuple[str, str], float], size: int) -> tuple[tuple[int, int], ...]:
        """From the source to the sink: at each node the edge that had least of its share.

        Of the edges that lead to room for so many tokens; empty where none does.
        """
        here, at = "source", 0
        path: list[tuple[int, int]] = []
        while True:
            edges = [edge for edge in self._edges[here] if self._has_room(edge[1], size)]
            if not edges:
                return ()
            edge = min(edges, key=lambda e: (turns.get(e, 0.0) + 1) / self._placement.flow[e])
            turns[edge] = turns.get(edge, 0.0) + 1
            here = edge[1]
            if here == "sink":
                return tuple(path)
            first, held = self._placement.ranges[int(here)]
            path.append((int(here), first + held - at))
            at = first + held

    def _has_room(self, name: str, size: int) -> bool:
        return name == "sink" or self.nodes[int(name)].room >= size

    def _pieces(self, number: int) -> list[Piece]:
        """A prompt, cut into chunks."""
        prompt = self._requests[number].prompt
        starts = range(0, prompt, self._chunk)
        return [
            Piece(number, min(self._chunk, prompt - start), start + self._chunk >= prompt)
            for start in starts
        ]

    def _send(self, now: float, node: int, items: list[Piece]) -> None:
        tokens = sum(piece.sent for piece in items)
        seconds = LINK_SECONDS + tokens * TOKEN_BYTES / LINK_BYTES_PER_SECOND
        self._push(now + seconds, node, items)

    def _push(self, at: float, node: int, items: list[Piece]) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, node, items))

    def _enter(self, name: int, items: list[Piece], now: float) -> None:
        node = self.nodes[name]
        for piece in items:
            (node.prompts if piece.tokens else node.answers).append(piece)
        if not node.is_busy:
            self._compute(name, node, now)

    def _compute(self, name: int, node: Node, now: float) -> None:
        """One pass over what waits: answers, and at most so many tokens of prompts.

        Of the answers it takes a micro-batch: all of them together would go round in one convoy,
        with every node but one idle.
        """
        head = node.answers[0] if node.answers else node.prompts[0]
        stops = len(self._requests[head.request].path)
        most = min(len(node.answers), -(-self._inside[self._part[name]] // stops))
        taken = [node.answers.popleft() for _ in range(most)]
        tokens = 0
        while node.prompts and tokens + node.prompts[0].tokens <= self._chunk:
            taken.append(node.prompts.popleft())
            tokens += taken[-1].tokens
        answers = operations = 0.0
        most_layers = 0
        for piece in taken:
            layers = self._requests[piece.request].path[piece.place][1]
            most_layers = max(most_layers, layers)
            # Two operations for each weight, which has two bytes.
            operations += piece.tokens * layers * LAYER_BYTES
            answers += 0 if piece.tokens else layers / node.layers / node.rate
        computing = operations / (node.card.operations * COMPUTE_SHARE)
        seconds = max(most_layers * LAYER_BYTES / node.card.bandwidth, answers + computing)
        node.is_busy = True
        node.busy_seconds += seconds
        self._push(now + seconds, -name - 1, taken)

    def _leave(self, name: int, items: list[Piece], now: float) -> None:
        node = self.nodes[name]
        node.is_busy = False
        targets: dict[int, list[Piece]] = {}
        has_ended = False
        for done in items:
            request = self._requests[done.request]
            piece = Piece(done.request, done.tokens, done.is_last, done.place + 1)
            if piece.place == len(request.path):
                if not piece.is_last:
                    continue
                has_ended |= self._write(request, now)
                if request.written == request.answer:
                    continue
                piece = Piece(done.request)
            targets.setdefault(request.path[piece.place][0], []).append(piece)
        for target, group in targets.items():
            self._send(now, target, group)
        if node.answers or node.prompts:
            self._compute(name, node, now)
        if has_ended:
            self._admit(now)

    def _write(self, request: Request, now: float) -> bool:
        request.written += 1
        self._tokens.append(now)
        if request.written == 1:
            request.first = now
        if request.written < request.answer:
            return False
        self._under_way -= 1
        self._inside[self._part[request.path[0][0]]] -= 1
        self._finished.append(request)
        self._times.append(now)
        for name, _ in request.path:
            self.nodes[name].room += request.prompt + request.answer
        return True


def replay(
    instance: Instance,
    placement: Placement,
    trace: Trace,
    limit: float | None,
    seconds: float,
    chunk: int,
) -> Outcome:
    """Full, or with the most sequences that keep to a mean time per output token."""
    cards = CARDS[len(instance.nodes)]

    def with_most(most: float) -> Outcome:
        requests = [
            Request(int(p), int(a)) for p, a in zip(trace.prompt, trace.answer, strict=True)
        ]
        return Replay(instance, placement, cards, requests, most, chunk).run(seconds, seconds / 3)

    if limit is None:
        return with_most(float("inf"))
    best, low, high = with_most(1), 1, 2048
    # A lone request that has not ended says nothing of its pace.
    if best.tpot > limit:
        return best
    while high - low > max(4, low // 12):
        middle = round(sqrt(low * high))
        found = with_most(middle)
        if found.tpot <= limit:
            best, low = found, middle
        else:
            high = middle
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("instances", type=Path)
    parser.add_argument("ours", type=Path)
    parser.add_argument("published", type=Path)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--nodes", default="[0-9]", help="only the instance of so many: 24 or 42")
    chosen = parser.parse_args()
    trace = made_trace(2000, 20.0, LENGTHS, seed=7)
    print(
        "| nodes | placement | limit of TPOT | served, tokens/s | mean TPOT | p95 TPOT | sequences "
        "| hops | busiest node |\n" + "|---" * 9 + "|"
    )
    for path in sorted(chosen.instances.glob(f"*{chosen.nodes}nodes.json")):
        instance = read_instance(path)
        flows = _flows(instance, path, chosen)
        for limit in LIMITS:
            plan = planned(instance, limit, trace, chosen.chunk)
            said = f"plan ({plan.prediction.tokens_per_second:.0f} predicted, {plan.seconds:.1f} s)"
            for name, placement in (flows | {said: plan.placement}).items():
                found = replay(instance, placement, trace, limit, chosen.seconds, chosen.chunk)
                print(f"| {len(instance.nodes)} | {name} | {limit} | {_row(found)}", flush=True)


def _flows(instance: Instance, path: Path, chosen: argparse.Namespace) -> dict[str, Placement]:
    published = (chosen.published / path.stem).with_suffix(".sol")
    found = {
        "Helix": published_placement(published, instance),
        "largest flow": read_placement(chosen.ours / path.name),
    }
    for name, placement in found.items():
        faults = faults_of(instance, placement, tolerance=1e-4)
        if faults:
            raise SystemExit(f"{name} on {path.name}: {faults[0]}")
    return {f"{name} ({objective(each):.1f})": each for name, each in found.items()}


def _row(found: Outcome) -> str:
    return (
        f"{found.tokens_per_second:.1f} | {found.tpot:.3f} s | {found.tpot_p95:.3f} s "
        f"| {found.sequences:.0f} | {found.hops:.1f} | {found.busiest:.0%} |"
    )


if __name__ == "__main__":
    main()
