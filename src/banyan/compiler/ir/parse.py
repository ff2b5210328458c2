"""Text back to graphs: the inverse of `print_graph`.

A recursive descent over tokens. Types are inferred again and must equal the printed ones, so a
text edited by hand is checked as it is read.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from banyan.compiler.ir.graph import Attribute, Builder, Graph, Kernel, Node, Output, Region
from banyan.compiler.ir.placement import has_effects
from banyan.compiler.ir.symbols import Dim, symbol
from banyan.compiler.ir.types import DType, Space, TensorType, TupleType, ValueType
from banyan.foundation.errors import GraphError

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<number>-?(?:\d+\.\d*(?:e[+-]?\d+)?|\d+e[+-]?\d+|inf\b|nan\b|\d+))
    |(?P<word>[A-Za-z_][\w.\-/]*)|(?P<value>%\d+)|(?P<kernel>@\d+)|(?P<mark>//|[{}()\[\]:,=*+]))""",
    re.VERBOSE,
)
_WORDS: dict[str, Attribute] = {
    "none": None,
    "true": True,
    "false": False,
    **{dtype.value: dtype for dtype in DType},
}


def parse_graph(text: str) -> Graph:
    """The graph that prints as `text`.

    Raises:
        GraphError: the text is not a graph; the message shows where.
    """
    return _Parser(text).graph()


@dataclass(slots=True)
class _Parser:
    text: str
    at: int = 0
    builder: Builder = field(default_factory=Builder)
    symbols: dict[str, Dim] = field(default_factory=dict)
    kernels: dict[str, Kernel] = field(default_factory=dict)

    def graph(self) -> Graph:
        self.expect("graph")
        name = self.take("word", "string")
        self.expect("{")
        inputs: list[Node] = []
        outputs: list[Output] = []
        nodes: dict[str, Node] = {}
        while not self.accept("}"):
            if self.accept("symbol"):
                self.symbol()
            elif self.accept("kernel"):
                label, kernel = self.kernel()
                self.kernels[label] = kernel
            elif self.accept("output"):
                outputs.append(self.output(nodes))
            else:
                node = self.node(nodes)
                inputs += [node] if node.op == "input" else []
        return Graph(name, tuple(inputs), tuple(outputs))

    def symbol(self) -> None:
        name = self.take("word")
        self.expect("in", "[")
        low = int(self.take("number"))
        self.expect(",")
        self.symbols[name] = symbol(name, low, int(self.take("number")))
        self.expect("]")

    def output(self, nodes: dict[str, Node]) -> Output:
        name = self.take("word", "string")
        self.expect("=")
        node = self.lookup(nodes, self.take("value"))
        return Output(name, node, self.take("word") if self.accept("updates") else None)

    def kernel(self) -> tuple[str, Kernel]:
        label, name = self.take("kernel"), self.take("word")
        self.expect("grid", "(")
        grid = self.listed(self.dim, ")")
        self.expect("{")
        nodes: dict[str, Node] = {}
        pointers: list[Node] = []
        while not self.accept("body"):
            pointers.append(self.node(nodes))
        body = self.region(nodes)
        self.expect("}")
        return label, Kernel(name, tuple(grid), tuple(pointers), body)

    def region(self, nodes: dict[str, Node]) -> Region:
        self.expect("(")
        parameters = self.listed(lambda: self.parameter(nodes), ")")
        self.expect("{")
        effects: list[Node] = []
        while not self.accept("yield"):
            node = self.node(nodes)
            effects += [node] if has_effects(node) else []
        results = self.listed(lambda: self.lookup(nodes, self.take("value")), "}")
        return Region(tuple(parameters), tuple(effects), tuple(results))

    def parameter(self, nodes: dict[str, Node]) -> Node:
        name = self.take("value")
        self.expect(":")
        nodes[name] = self.builder.parameter(self.tensor_type())
        return nodes[name]

    def node(self, nodes: dict[str, Node]) -> Node:
        name = self.take("value")
        self.expect("=")
        op = self.take("word")
        args: list[Node] = []
        while self.peek()[0] == "value":
            args.append(self.lookup(nodes, self.take("value")))
            self.accept(",")
        attrs = self.attributes() if self.accept("{") else {}
        self.expect(":")
        printed = self.type()
        if op == "loop":
            self.expect("body")
            attrs["body"] = self.region(nodes)
        node = self.make(op, args, attrs, printed)
        if node.type != printed:
            raise self.error(f"{name} is printed as {printed} but is {node.type}")
        nodes[name] = node
        return node

    def make(
        self, op: str, args: list[Node], attrs: dict[str, Attribute], printed: ValueType
    ) -> Node:
        if op == "bind":
            low, high = attrs["minimum"], attrs["maximum"]
            if isinstance(low, int) and isinstance(high, int):
                self.symbols[str(attrs["name"])] = symbol(str(attrs["name"]), low, high)
        if op == "input" and isinstance(printed, TensorType):
            packing = attrs["packing"]
            shown = None if packing is None else str(packing)
            return self.builder.input(str(attrs["name"]), printed, str(attrs["role"]), shown)
        if op == "pointer" and isinstance(printed, TensorType):
            return self.builder.pointer(str(attrs["name"]), printed, str(attrs["access"]))
        return self.builder.add(op, args, **attrs)

    def attributes(self) -> dict[str, Attribute]:
        def pair() -> tuple[str, Attribute]:
            key = self.take("word")
            self.expect("=")
            return key, self.attribute()

        return dict(self.listed(pair, "}"))

    def attribute(self) -> Attribute:
        kind, token = self.peek()
        if kind == "number":
            return _number(self.take("number"))
        if kind == "string":
            return str(json.loads(self.take("string")))
        if kind == "kernel":
            return self.kernels[self.take("kernel")]
        if self.accept("("):
            return tuple(self.listed(self.attribute, ")"))
        if self.accept("["):
            dim = self.dim()
            self.expect("]")
            return dim
        if self.accept("type"):
            return self.tensor_type()
        if token in _WORDS:
            return _WORDS[self.take("word")]
        raise self.error(f"{token!r} is no attribute")

    def type(self) -> ValueType:
        if self.accept("("):
            return TupleType(tuple(self.listed(self.tensor_type, ")")))
        return self.tensor_type()

    def tensor_type(self) -> TensorType:
        space = Space.TILE if self.accept("tile") else Space.TENSOR
        dtype = DType(self.take("word"))
        self.expect("[")
        return TensorType(tuple(self.listed(self.dim, "]")), dtype, space)

    def dim(self) -> Dim:
        total = self.factor()
        while self.accept("+"):
            total = total + self.factor()
        return total

    def factor(self) -> Dim:
        result = self.atom()
        while self.accept("*"):
            result = result * self.atom()
        return result

    def atom(self) -> Dim:
        if self.accept("("):
            inner = self.dim()
            if self.accept("//"):
                inner = inner // int(self.take("number"))
            self.expect(")")
            return inner
        kind, token = self.peek()
        if kind == "number":
            return int(self.take("number"))
        if token not in self.symbols:
            raise self.error(f"unknown symbol {token!r}")
        return self.symbols[self.take("word")]

    def listed(self, item: Callable[[], Any], end: str) -> list[Any]:
        """Items separated by commas up to `end`."""
        items: list[Any] = []
        while not self.accept(end):
            items.append(item())
            self.accept(",")
        return items

    def lookup(self, nodes: dict[str, Node], name: str) -> Node:
        if name not in nodes:
            raise self.error(f"{name} is used before it is defined")
        return nodes[name]

    def peek(self) -> tuple[str, str]:
        match = _TOKEN.match(self.text, self.at)
        if match is None or match.lastgroup is None:
            raise self.error("no token here")
        return match.lastgroup, match[match.lastgroup]

    def take(self, *kinds: str) -> str:
        kind, token = self.peek()
        if kind not in kinds:
            raise self.error(f"expected a {' or '.join(kinds)}, found {token!r}")
        self.skip()
        return token

    def accept(self, token: str) -> bool:
        kind, found = self.peek()
        if found != token or kind == "string":
            return False
        self.skip()
        return True

    def expect(self, *tokens: str) -> None:
        for token in tokens:
            if not self.accept(token):
                raise self.error(f"expected {token!r}, found {self.peek()[1]!r}")

    def skip(self) -> None:
        match = _TOKEN.match(self.text, self.at)
        self.at = self.at if match is None else match.end()

    def error(self, message: str) -> GraphError:
        line = self.text.count("\n", 0, self.at) + 1
        shown = self.text[self.at : self.at + 40].strip().split("\n")[0]
        return GraphError(f"line {line}, at {shown!r}: {message}")


def _number(token: str) -> int | float:
    return int(token) if re.fullmatch(r"-?\d+", token) else float(token)
