import asyncio
import time
from contextlib import aclosing
from typing import Any

import pytest

from banyan.engine.sampling import SamplingOptions
from banyan.gateway.metrics.engine_collector import READINGS
from banyan.gateway.metrics.families import ENGINE, all_families
from banyan.gateway.metrics.metrics import Metrics
from banyan.gateway.metrics.naming import Naming
from banyan.gateway.records import RequestRecord, observed
from tests.gateway.scripted import LOADING, ScriptedBackend, chat_body, completion_body, connect


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
    text = Metrics(ScriptedBackend(status=LOADING), Naming("tiny")).render().decode()
    assert "banyan_engine_ready 0.0" in text
    assert "banyan_blocks_free" not in text


def scraped(**settings: Any) -> list[str]:
    async def exchange() -> str:
        async with connect(ScriptedBackend(), **settings) as client:
            await client.post("/v1/chat/completions", json=chat_body(n=2, max_tokens=50))
            return (await client.get("/metrics")).text

    return asyncio.run(exchange()).splitlines()


def value(lines: list[str], name: str, **labels: str) -> float:
    wanted = {"engine": "0", "model_name": "tiny", **labels}
    spelt = ",".join(f'{label}="{wanted[label]}"' for label in sorted(wanted))
    (line,) = [line for line in lines if line.startswith(f"{name}{{{spelt}}} ")]
    return float(line.rpartition(" ")[2])


def test_dashboards_made_for_vllm_find_their_metrics() -> None:
    lines = scraped()
    assert value(lines, "vllm:num_requests_waiting") == 1
    assert value(lines, "vllm:num_requests_running") == 2
    assert value(lines, "vllm:kv_cache_usage_perc") == pytest.approx(1 - 3 / 4)
    assert value(lines, "vllm:gpu_cache_usage_perc") == pytest.approx(1 - 3 / 4)
    assert value(lines, "vllm:generation_tokens_total") == 5
    assert value(lines, "vllm:prompt_tokens_total") == 19
    assert value(lines, "vllm:num_preemptions_total") == 7
    assert value(lines, "vllm:request_success_total", finished_reason="stop") == 2
    assert value(lines, "vllm:time_to_first_token_seconds_count") == 2
    assert value(lines, "vllm:inter_token_latency_seconds_count") == 2
    assert value(lines, "vllm:time_per_output_token_seconds_count") == 2
    assert value(lines, "vllm:e2e_request_latency_seconds_count") == 1
    assert value(lines, "vllm:request_queue_time_seconds_count") == 1
    assert value(lines, "vllm:request_prompt_tokens_sum") == 19
    assert value(lines, "vllm:request_generation_tokens_sum") == 4
    assert value(lines, "vllm:request_params_n_sum") == 2
    assert value(lines, "vllm:request_params_max_tokens_sum") == 50


def test_an_operator_may_choose_whose_names_are_published() -> None:
    ours, theirs = scraped(metric_names="banyan"), scraped(metric_names="vllm")
    assert [line for line in ours if line.startswith("vllm:") and "prompt_tokens" not in line] == []
    assert "banyan_requests_running 2.0" in ours
    assert "banyan_requests_running 2.0" not in theirs
    # What vLLM has no name for stays, whoever's names are chosen.
    assert "banyan_blocks 4.0" in theirs


def test_every_metric_of_the_engine_has_a_reading_and_no_name_is_given_twice() -> None:
    assert {*READINGS, "ready", "restarts"} == set(ENGINE)
    ours = [family.ours for family in all_families() if family.ours is not None]
    theirs = [name for family in all_families() for name in family.vllm]
    assert len(set(ours)) == len(ours)
    assert len(set(theirs)) == len(theirs)


def test_a_reader_who_leaves_is_counted_as_an_abort() -> None:
    backend = ScriptedBackend(pause_forever=True)
    metrics = Metrics(backend, Naming("tiny"))

    async def read_and_leave() -> None:
        options = SamplingOptions()
        record = RequestRecord(options, time.perf_counter(), num_prompt_tokens=2)
        events = observed(backend.generate("r", [1, 2], options), record, [metrics])
        async with aclosing(events):
            await anext(events)

    asyncio.run(read_and_leave())
    lines = metrics.render().decode().splitlines()
    assert value(lines, "vllm:request_success_total", finished_reason="abort") == 1


def test_requests_being_answered_are_the_load() -> None:
    async def exchange() -> tuple[int, int]:
        async with connect(ScriptedBackend(pause_forever=True)) as client:
            asking = asyncio.create_task(client.post("/v1/completions", json=completion_body()))
            while (await client.get("/load")).json()["server_load"] == 0:
                await asyncio.sleep(0)
            during = (await client.get("/load")).json()["server_load"]
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            return during, (await client.get("/load")).json()["server_load"]

    assert asyncio.run(exchange()) == (1, 0)
