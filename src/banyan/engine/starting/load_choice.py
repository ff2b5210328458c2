"""What evens out the work of the places of a plan: when answers begin, and steps under way."""

from banyan.engine.options import EngineLimits, EngineOptions
from banyan.engine.requests.steady_load import SteadyLoad
from banyan.engine.runner import StepModel
from banyan.engine.scheduling.pipeline_depth import FixedDepth, LearnedDepth, PipelineDepth
from banyan.planner.plan_file import parse_plan

# A group for each 16th of an answer: the most that is cached is within 4 % of the least there is,
# and prompts still come several at once.
_NUM_PARTS = 16


def choose_steady_load(options: EngineOptions, limits: EngineLimits) -> SteadyLoad | None:
    """What evens out the work of the devices that attend, where those do nothing else."""
    if options.plan is None:
        return None
    stages = [stage for replica in parse_plan(options.plan).replicas for stage in replica.stages]
    if not any(stage.attention for stage in stages):
        return None
    return SteadyLoad(limits, num_parts=_NUM_PARTS)


def choose_depth(model: StepModel) -> PipelineDepth:
    """How many steps are under way: learned where a model takes several."""
    most = model.num_in_flight
    return LearnedDepth(usual=most // 2, most=most) if most > 1 else FixedDepth(1)
