import msgspec
import pytest

from banyan.engine.events import EngineStatistics, TokenEvent, TokenLogprob
from banyan.engine.options import EngineOptions
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.process.messages import (
    AddRequest,
    CancelRequest,
    Command,
    EngineSettings,
    Failed,
    Loading,
    Pool,
    Pooled,
    Published,
    Ready,
    Refused,
    Report,
    Start,
    Stop,
    decode_command,
    decode_report,
    encode,
    error_of,
    refused,
)
from banyan.engine.process.status import ModelFacts
from banyan.engine.request_context import RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import (
    BanyanError,
    DeadlineMissed,
    EngineStopped,
    Overloaded,
    RequestError,
)

OPTIONS = SamplingOptions(max_tokens=3, stop=["a"], stop_token_ids=[7], logit_bias={3: 1.5})
EVENT = TokenEvent(
    request_id="r",
    index=1,
    token_ids=(5,),
    text="\u6811",
    logprobs=(TokenLogprob(5, -0.25, ((5, -0.25), (6, float("-inf")))),),
    finish_reason="stop",
    num_prompt_tokens=2,
    num_generated_tokens=1,
    stop_reason="a",
)


@pytest.mark.parametrize(
    "command",
    [
        Start(EngineSettings(model="m", options=EngineOptions(threads=2), cache_directory="/c")),
        AddRequest("r", (1, 2), OPTIONS),
        AddRequest("r", (1, 2), OPTIONS, RequestContext(priority=-1, adapter="a")),
        CancelRequest("r"),
        Pool("r", (PoolingPrompt((1,)), PoolingPrompt((2, 3), (0, 1)))),
        Stop(),
    ],
)
def test_every_command_survives_the_wire(command: Command) -> None:
    assert decode_command(encode(command)) == command


@pytest.mark.parametrize(
    "report",
    [
        Loading("Packing", 1, 2),
        Ready(ModelFacts("decoder", 64, {"coverage": 1.0})),
        Failed("no", is_input=True),
        Published((EVENT,), EngineStatistics(num_waiting=1, num_blocks=4, num_steps=8)),
        Pooled("r", (b"\x00\x00",)),
        Refused("r", "no", "seed", is_input=True),
    ],
)
def test_every_report_survives_the_wire(report: Report) -> None:
    assert decode_report(encode(report)) == report


def test_options_out_of_range_do_not_pass_the_wire() -> None:
    good = encode(AddRequest("r", (1,), SamplingOptions(top_p=0.5)))
    half, nine = msgspec.msgpack.encode(0.5), msgspec.msgpack.encode(9.5)
    with pytest.raises(msgspec.ValidationError, match="top_p"):
        decode_command(good.replace(half, nine))


@pytest.mark.parametrize(
    "error",
    [
        RequestError("wrong", parameter="n"),
        Overloaded("full", retry_after_seconds=7, is_callers_share=True),
        Overloaded("full", retry_after_seconds=1),
        DeadlineMissed("late"),
        EngineStopped("gone"),
    ],
    ids=str,
)
def test_why_a_request_is_refused_arrives_as_it_left(error: BanyanError) -> None:
    report = decode_report(encode(refused("a", error)))
    assert isinstance(report, Refused)
    arrived = error_of(report)
    assert type(arrived) is type(error)
    if not isinstance(error, EngineStopped):
        assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
