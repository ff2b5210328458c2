"""What is known from outside about an engine in its own process. Frozen data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ModelKind = Literal["decoder", "embedder", "classifier", "transcriber"]


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What is known of a loaded adapter.

    Attributes:
        name: as requests ask for it.
        path: where the engine read it.
        base_model: the name of its base, as its file has it; may be empty.
    """

    name: str
    path: str
    base_model: str = ""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the engine says of its model once it is loaded.

    Attributes:
        kind: a `decoder` writes text, an `embedder` makes vectors, a `classifier` gives scores,
            a `transcriber` writes down speech.
        max_model_len: most tokens of one prompt and its answer together.
        report: what was compiled, for which device, and how long it took, as JSON values.
        adapters: those that requests can name, oldest first.
        max_adapters: most adapters that one step can use; 0 for a model without room for any.
        cache: how the KV cache was asked for, by vLLM's names of the options; empty for a model
            that keeps none.
    """

    kind: ModelKind
    max_model_len: int
    report: Mapping[str, Any] = field(default_factory=dict)
    adapters: tuple[AdapterFacts, ...] = ()
    max_adapters: int = 0
    cache: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """Whether the engine answers now.

    Attributes:
        state: only a `ready` engine takes requests; `loading` and `stopped` ones come back by
            themselves, a `draining` one finishes what it has and ends.
        detail: one sentence for whoever waits: the step of loading, or why it stopped.
        model: known once the engine was ready, and kept while it restarts.
        num_restarts: how often the process was started again.
    """

    state: Literal["loading", "ready", "draining", "stopped"]
    detail: str
    model: ModelFacts | None
    num_restarts: int = 0
