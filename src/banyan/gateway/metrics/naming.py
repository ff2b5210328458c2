"""Under which names metrics are published: ours, vLLM's, or both."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from banyan.gateway.metrics.families import Family

Names = Literal["both", "banyan", "vllm"]
NAMES: tuple[Names, ...] = ("both", "banyan", "vllm")


@dataclass(frozen=True, slots=True)
class Naming:
    """Which names an operator chose.

    Attributes:
        model_name: label of vLLM's metrics.
        names: whose names.
    """

    model_name: str
    names: Names = "both"

    def of(
        self, family: Family, replica: int | None = None
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield each name of a metric with the labels that are the same for all its values.

        vLLM numbers its engines in a label; ours say which replica, where there are several.
        """
        wants_ours = self.names != "vllm" or not family.vllm
        if family.ours is not None and wants_ours:
            yield f"banyan_{family.ours}", {} if replica is None else {"replica": str(replica)}
        if self.names != "banyan" or family.ours is None:
            for name in family.vllm:
                labels = {"model_name": self.model_name, "engine": str(replica or 0)}
                yield f"vllm:{name}", labels
