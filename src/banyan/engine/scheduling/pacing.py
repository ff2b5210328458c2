"""How many tokens the next step may have, so that answers being written stay fluent.

Owns what was learned of the cost of steps; reads no clock itself. Called by `engine.Engine`.
"""

from collections.abc import Iterable, Sequence

from banyan.engine.options import EngineLimits, QueuePolicy
from banyan.engine.runner import LaneSlice
from banyan.engine.scheduling.scheduler import Demand
from banyan.engine.scheduling.step_cost import StepCost, StepWork, work_of

# Prompts go on with one block in a step even when decoding alone takes longer than the goal.
_LEAST_PROMPT_TOKENS = 16
_FORGET_LONGEST = 0.98


class Pacing:
    """Chooses token budgets by the cost of steps.

    Args:
        policy: its goal for a step; without one every step has the largest budget.
        limits: the largest budget.
    """

    def __init__(self, policy: QueuePolicy, limits: EngineLimits) -> None:
        self._goal_seconds = policy.latency_goal_seconds
        self._largest = limits.token_budget
        self._cost = StepCost()
        self._longest_step = 0.0

    def token_budget(self, running: Sequence[Demand], *, num_in_flight: int = 1) -> int:
        """Most tokens of a step beside the sequences that run; at least one for each of them.

        Steps that are under way at once share the largest budget, so that prompts that come
        together are computed by all places of the model.
        """
        largest = -(-self._largest // num_in_flight)
        decoding = [demand for demand in running if demand.is_decoding]
        if self._goal_seconds is None or not decoding:
            return largest
        prompts = [demand for demand in running if not demand.is_decoding]
        num_prompt_tokens = self._cost.most_tokens(
            self._goal_seconds,
            running=_sum((demand.num_computed, 1) for demand in decoding),
            context=prompts[0].num_computed if prompts else 0,
            least=min(_LEAST_PROMPT_TOKENS, largest - len(decoding)),
            most=largest - len(decoding),
        )
        return max(len(decoding) + num_prompt_tokens, len(running))

    def note(self, slices: Sequence[LaneSlice], seconds: float) -> None:
        """Learn from a step that computed `slices` in `seconds`."""
        work = _sum((slice_.start, slice_.num_tokens) for slice_ in slices)
        if work.num_tokens and seconds > 0:
            self._cost.observe(work, seconds)
            self._longest_step = max(seconds, _FORGET_LONGEST * self._longest_step)

    def compute_seconds(self, start: int, num_tokens: int) -> float:
        """What `num_tokens` prompt tokens behind `start` others add; 0 while that is not known."""
        return self._cost.marginal_seconds(work_of(start, num_tokens))

    def begin_seconds(self, num_tokens: int) -> float:
        """From the start of a prompt to its first token, when nothing of it is cached.

        It may share its last step with as many others as any step lately. 0 while nothing is known.
        """
        return self.compute_seconds(0, num_tokens) + self._longest_step


def _sum(parts: Iterable[tuple[int, int]]) -> StepWork:
    """The work of (start, num_tokens) parts; plain numbers, for this is done in every step."""
    num_tokens = num_pairs = 0
    for start, count in parts:
        num_tokens += count
        num_pairs += count * start + count * (count + 1) // 2
    return StepWork(num_tokens, num_pairs)
