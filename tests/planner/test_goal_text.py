import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.planner.goal_text import read_goal, read_training_job, read_workload
from banyan.planner.training.job import TrainingJob
from banyan.planner.workload import Goal, Workload


def test_a_goal_is_two_times_and_either_may_be_left_out() -> None:
    assert read_goal("tpot=50ms, ttft=2s") == Goal(
        time_to_first_token=2.0, time_per_output_token=0.05
    )
    assert read_goal("ttft=500ms") == Goal(time_to_first_token=0.5)
    assert read_goal("") == Goal()


def test_a_workload_is_tokens_of_both_and_may_say_more() -> None:
    goal = Goal(time_per_output_token=0.05)
    assert read_workload("prompt=512,answer=128", goal) == Workload(
        prompt_tokens=512, answer_tokens=128, goal=goal
    )
    assert read_workload("prompt=512,answer=128,rate=600/min,shared=25%") == Workload(
        prompt_tokens=512, answer_tokens=128, requests_per_second=10.0, shared_prompt_share=0.25
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tpto=50ms", "'tpto=50ms', which cannot be read; known are tpot, ttft"),
        ("50ms", "'50ms', which cannot be read"),
        ("tpot=50ms,tpot=1s", "says 'tpot' twice"),
        ("tpot=0", "goal tpot='0' is nothing; write a time"),
        ("tpot=-3ms", "goal tpot='-3ms' cannot be used"),
        ("tpot=", "goal tpot='' cannot be used"),
    ],
)
def test_a_goal_that_is_none_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_goal(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "does not say 'prompt'"),
        ("prompt=512", "does not say 'answer'; write tokens of both"),
        ("prompt=0,answer=1", "workload prompt=0 cannot be used; write a number from 1"),
        ("prompt=1e3,answer=1", "workload prompt='1e3' cannot be used"),
        ("prompt=1,answer=1,rate=0", "workload rate='0' is nothing"),
        ("prompt=1,answer=1,shared=2", "more than everything"),
    ],
)
def test_a_workload_that_is_none_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_workload(text)


@given(st.text(alphabet="promtanswe=,.0123456789 s/%", max_size=40))
def test_any_text_is_a_workload_or_one_sentence(text: str) -> None:
    try:
        workload = read_workload(text)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert workload.prompt_tokens >= 1
        assert workload.answer_tokens >= 1


def test_a_training_job_is_sequences_and_their_tokens() -> None:
    assert read_training_job("batch=512,sequence=4096") == TrainingJob(
        sequences_per_step=512, sequence_tokens=4096
    )
    assert read_training_job("batch=1,sequence=2,state=12,recompute=yes") == TrainingJob(
        sequences_per_step=1, sequence_tokens=2, state_bytes_per_weight=12.0, recompute=True
    )
    for text, sentence in (
        ("batch=512", "does not say 'sequence'; write sequences of a step"),
        ("batch=0,sequence=1", "training batch=0 cannot be used"),
        ("batch=1,sequence=1,recompute=maybe", "recompute='maybe' cannot be used; write yes or no"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_training_job(text)
