"""Under which names metrics are published: ours, vLLM's, or both."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from banyan.gateway.metrics.families import Family

Names = Literal["both", "banyan", "vllm"]
NAMES: tuple[Names, ...] = ("both", "banyan", "vllm")

# vLLM numbers its engines; this server has one.
_ENGINE = "0"


@dataclass(frozen=True, slots=True)
class Naming:
    """Which names an operator chose.

    Attributes:
        model_name: label of vLLM's metrics.
        names: whose names.
    """

    model_name: str
    names: Names = "both"

    def of(self, family: Family) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield each name of a metric with the labels that are the same for all its values."""
        wants_ours = self.names != "vllm" or not family.vllm
        if family.ours is not None and wants_ours:
            yield f"banyan_{family.ours}", {}
        if self.names != "banyan" or family.ours is None:
            for name in family.vllm:
                yield f"vllm:{name}", {"model_name": self.model_name, "engine": _ENGINE}
