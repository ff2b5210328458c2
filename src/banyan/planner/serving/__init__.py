"""Where a model is served best: column generation, forecasts of any plan, reasons."""

from banyan.planner.serving.planning import plan_serving

__all__ = ["plan_serving"]
