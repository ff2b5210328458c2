"""Banyan: one place to train, fine-tune and serve large models on any mix of chips.

    from banyan import LLM, SamplingOptions
    llm = LLM("path-or-hub-id", dtype="bfloat16")
    print(llm.generate("Why is the sky blue?", SamplingOptions(max_tokens=64))[0].text)

The names in `__all__` are the public API; each is imported when it is first used, so that
`import banyan` costs almost nothing and does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from banyan.compiler.compile import compile  # noqa: A004  (the name of torch.compile)
    from banyan.engine.embedder import Embedder
    from banyan.engine.llm import LLM
    from banyan.engine.outputs import RequestOutput
    from banyan.engine.sampling import SamplingOptions
    from banyan.engine.structure.definition import Structure

    __version__: str

__all__ = [
    "LLM",
    "Embedder",
    "RequestOutput",
    "SamplingOptions",
    "Structure",
    "__version__",
    "compile",
]

_HOMES = {
    "LLM": "banyan.engine.llm",
    "Embedder": "banyan.engine.embedder",
    "RequestOutput": "banyan.engine.outputs",
    "SamplingOptions": "banyan.engine.sampling",
    "Structure": "banyan.engine.structure.definition",
    "compile": "banyan.compiler.compile",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("banyan-compute")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'banyan' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
