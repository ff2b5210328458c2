"""Sets of engine options for a purpose; what a person asks for himself wins over them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from banyan.engine.options import EngineOptions
from banyan.foundation.errors import InputError

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # Ten tokens a second are more than people read, and prompts get what that leaves of a step.
        "low-latency": {
            "max_num_seqs": 8,
            "max_num_batched_tokens": 256,
            "latency_goal_ms": 100.0,
        },
        # Long steps: weights are read once for many tokens. Where a machine would take seconds for
        # one, it is cut: by then there is nothing more to gain, and readers would wait for nothing.
        "throughput": {
            "max_num_seqs": 256,
            "max_num_batched_tokens": 4096,
            "latency_goal_ms": 1000.0,
        },
    }
)
"""Options by the name of the preset."""


def chosen_options(preset: str | None, asked: Mapping[str, Any]) -> EngineOptions:
    """Join a preset and what was asked; None in `asked` leaves an option to the preset.

    Raises:
        InputError: there is no such preset, or an option cannot be used.
    """
    if preset is not None and preset not in PRESETS:
        raise InputError(f"preset={preset!r} is not known; use one of {', '.join(PRESETS)}")
    proposed = {} if preset is None else PRESETS[preset]
    given = {name: value for name, value in asked.items() if value is not None}
    return EngineOptions(**{**proposed, **given})
