"""What a workload is on average."""

from banyan.planner.workload import Workload


def test_the_mean_context_is_the_prompt_and_half_the_answer() -> None:
    assert Workload(prompt_tokens=512, answer_tokens=128).mean_context == 576
