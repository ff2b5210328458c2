import asyncio

from banyan.gateway.metrics import Metrics
from tests.gateway.scripted import LOADING, ScriptedBackend, chat_body, connect


def test_metrics_tell_of_the_engine_and_of_the_requests_answered() -> None:
    async def exchange() -> str:
        async with connect(ScriptedBackend()) as client:
            await client.post("/v1/chat/completions", json=chat_body())
            await client.get("/some/scanner")
            return (await client.get("/metrics")).text

    lines = asyncio.run(exchange()).splitlines()
    assert "banyan_requests_waiting 1.0" in lines
    assert "banyan_requests_running 2.0" in lines
    assert "banyan_blocks_free 3.0" in lines
    assert "banyan_generated_tokens_total 5.0" in lines
    assert "banyan_time_to_first_token_seconds_count 1.0" in lines
    assert "banyan_time_per_output_token_seconds_count 1.0" in lines
    assert 'banyan_requests_total{route="/v1/chat/completions",status="200"} 1.0' in lines
    assert 'banyan_requests_total{route="other",status="404"} 1.0' in lines


def test_a_bug_is_counted_as_an_answer_of_status_500() -> None:
    async def exchange() -> str:
        async with connect(ScriptedBackend(failure=KeyError("oh"))) as client:
            await client.post("/v1/chat/completions", json=chat_body())
            return (await client.get("/metrics")).text

    line = 'banyan_requests_total{route="/v1/chat/completions",status="500"} 1.0'
    assert line in asyncio.run(exchange()).splitlines()


def test_an_engine_that_never_started_has_no_counters() -> None:
    text = Metrics(ScriptedBackend(status=LOADING)).render().decode()
    assert "banyan_engine_ready 0.0" in text
    assert "banyan_blocks_free" not in text
