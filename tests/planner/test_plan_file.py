import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.planner.plan import Plan, Prediction, Replica, Stage
from banyan.planner.plan_file import parse_plan, print_plan

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
GROUPS = st.lists(NAMES, max_size=3).map(tuple)
STAGES = st.builds(
    Stage, st.integers(-3, 90), st.integers(-3, 90), GROUPS, attention=GROUPS, experts=GROUPS
)
FLOATS = st.floats(allow_nan=False)
PREDICTIONS = st.builds(
    Prediction,
    tokens_per_second=FLOATS,
    time_to_first_token=FLOATS,
    time_per_output_token=FLOATS,
    memory_bytes=st.dictionaries(NAMES, st.integers(0, 10**15), max_size=3),
    joules_per_token=FLOATS,
    cost_per_million_tokens=st.none() | FLOATS,
    upper_bound=st.none() | FLOATS,
)
REPLICAS = st.builds(
    Replica,
    stages=st.lists(STAGES, max_size=3).map(tuple),
    prefill=st.lists(STAGES, max_size=2).map(tuple),
    max_sequences=st.integers(0, 9999),
)
PLANS = st.builds(
    Plan,
    model=NAMES,
    model_fingerprint=NAMES,
    num_layers=st.integers(0, 200),
    replicas=st.lists(REPLICAS, max_size=3).map(tuple),
    prediction=st.none() | PREDICTIONS,
)


@given(PLANS)
def test_a_printed_plan_reads_back_as_the_same_plan(plan: Plan) -> None:
    assert parse_plan(print_plan(plan)) == plan


def test_a_plan_reads_like_this() -> None:
    plan = Plan(
        model="m",
        model_fingerprint="f",
        num_layers=4,
        replicas=(Replica((Stage(0, 3, ("a", "b")), Stage(3, 4, ("c",), ("cpu",))), (), 8),),
    )
    assert print_plan(plan) == (
        'format = 1\nmodel = "m"\nfingerprint = "f"\nlayers = 4\n'
        "\n[[replica]]\nmax_sequences = 8\n"
        '\n[[replica.stage]]\nlayers = [0, 3]\ndevices = ["a", "b"]\n'
        '\n[[replica.stage]]\nlayers = [3, 4]\ndevices = ["c"]\nattention = ["cpu"]\n'
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("format = ", "is not TOML"),
        ("format = 2", "reads 1"),
        ('format = "1"', "an integer"),
        ("format = 1\nmodell = 3", "'modell', which is not known"),
        ("format = 1\nmodel = 3", "a text is needed"),
        ('format = 1\nmodel = "m"\nfingerprint = "f"\nlayers = true', "an integer"),
    ],
)
def test_a_text_that_is_no_plan_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        parse_plan(text)


HEAD = 'format = 1\nmodel = "m"\nfingerprint = "f"\nlayers = 2\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("replica = 3", "tables"),
        ("[[replica]]\n[[replica.stage]]\nlayers = [0]", "two integers"),
        ("[[replica]]\n[[replica.stage]]\nlayers = [0, 2]\ndevices = [1]", "names of devices"),
        ("[[replica]]\n[[replica.stage]]\nlayers = [0, 2]\ndevice = ['a']", "not known"),
        ("[prediction]\ntokens_per_second = 'fast'", "a number is needed"),
        ("prediction = 1", "a table is needed"),
        ("[prediction]\nmemory_bytes = 2", "a table is needed"),
    ],
)
def test_what_is_inside_a_plan_is_judged_too(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        parse_plan(HEAD + text)


@given(st.text(max_size=60), st.integers(0, 400), st.integers(0, 400))
def test_a_damaged_plan_is_read_or_refused_never_worse(noise: str, start: int, end: int) -> None:
    replica = Replica((Stage(0, 1, ("a",)), Stage(1, 2, ("b",))))
    text = print_plan(
        Plan(model="m", model_fingerprint="f", num_layers=2, replicas=(replica, replica))
    )
    with contextlib.suppress(InputError):
        parse_plan(text[:start] + noise + text[end:])
