"""What is asked of a model, and how fast it has to be. Frozen values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Limits that hold for nearly every request; None where nothing is asked.

    Attributes:
        time_to_first_token: most seconds from arrival to the first token.
        time_per_output_token: most seconds between two tokens.
    """

    time_to_first_token: float | None = None
    time_per_output_token: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The requests a plan is made for.

    Attributes:
        prompt_tokens: of a usual request.
        answer_tokens: of a usual request.
        requests_per_second: how many come; None asks for as many as can be served.
        goal: how fast each has to be.
        shared_prompt_share: share of a prompt that is in the prefix cache already, 0 to 1.
    """

    prompt_tokens: int
    answer_tokens: int
    requests_per_second: float | None = None
    goal: Goal = Goal()
    shared_prompt_share: float = 0.0

    @property
    def mean_context(self) -> float:
        """Tokens in the cache of a sequence, on average over its answer."""
        return self.prompt_tokens + self.answer_tokens / 2
