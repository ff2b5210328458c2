"""Several replicas seen as one engine."""

from banyan.engine.events import EngineStatistics
from banyan.engine.process.replica_totals import joined_statistics, joined_status
from banyan.engine.process.status import EngineStatus, ModelFacts


def test_what_is_said_of_all_replicas_follows_from_each() -> None:
    model = ModelFacts("decoder", 64)
    up = EngineStatus("ready", "the engine is ready", model)
    down = EngineStatus("stopped", "killed", ModelFacts("decoder", 32), 3)
    both = joined_status([up, down])
    assert (both.state, both.detail, both.num_restarts) == ("ready", "replica 1: killed", 3)
    assert both.model == ModelFacts("decoder", 32)
    assert joined_status([down, down]).state == "stopped"
    one = EngineStatistics(num_steps=2, step_sizes=(1, 1), adapters_running=("x",))
    other = EngineStatistics(num_steps=3, step_sizes=(0, 3), adapters_running=("x", "y"))
    assert joined_statistics([one, other]) == EngineStatistics(
        num_steps=5, step_sizes=(1, 4), adapters_running=("x", "y")
    )
    assert joined_statistics([]) is None
