"""What is known of several replicas, as of one engine. Pure."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from banyan.engine.events import EngineStatistics
from banyan.engine.process.status import EngineStatus, ModelFacts


def joined_status(each: Sequence[EngineStatus]) -> EngineStatus:
    """The status of several replicas: ready as soon as one is, and what is wrong with others."""
    states = {status.state for status in each}
    state = next(s for s in ("ready", "loading", "draining", "stopped") if s in states)
    others = [
        f"replica {number}: {status.detail}"
        for number, status in enumerate(each)
        if status.state != "ready"
    ]
    models = [status.model for status in each if status.model is not None]
    return EngineStatus(
        state,
        "; ".join(others) or "all replicas are ready",
        joined_model(models) if models else None,
        sum(status.num_restarts for status in each),
    )


def joined_statistics(each: Sequence[EngineStatistics]) -> EngineStatistics | None:
    """The counters of several replicas as one; None of none."""
    if not each:
        return None
    found: dict[str, Any] = {}
    for one in fields(EngineStatistics):
        values = [getattr(replica, one.name) for replica in each]
        if one.name in {"adapters_running", "adapters_waiting"}:
            found[one.name] = tuple(dict.fromkeys(name for names in values for name in names))
        elif one.name == "step_sizes":
            counted = [sizes for sizes in values if sizes]
            found[one.name] = tuple(map(sum, zip(*counted, strict=True)))
        else:
            found[one.name] = sum(values)
    return EngineStatistics(**found)


def joined_model(models: Sequence[ModelFacts]) -> ModelFacts:
    """What every replica can do."""
    return replace(models[0], max_model_len=min(model.max_model_len for model in models))
