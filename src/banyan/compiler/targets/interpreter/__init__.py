"""The meaning of every operation in NumPy: the oracle all other targets are compared with."""

from banyan.compiler.targets.interpreter.run import run_graph

__all__ = ["run_graph"]
