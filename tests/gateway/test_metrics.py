import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest

from banyan.engine.events import EngineStatistics
from banyan.engine.process.status import EngineStatus
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import EngineStopped
from banyan.gateway.metrics.engine_collector import READINGS
from banyan.gateway.metrics.families import ENGINE, all_families
from banyan.gateway.metrics.metrics import Metrics
from banyan.gateway.metrics.naming import Naming
from banyan.gateway.records import RequestRecord, observed
from tests.gateway.scripted import (
    ENCODER,
    LOADING,
    ScriptedBackend,
    chat_body,
    completion_body,
    connect,
)


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


def test_steps_are_told_by_their_tokens() -> None:
    lines = scraped()
    assert value(lines, "vllm:iteration_tokens_total_bucket", le="1.0") == 3
    assert value(lines, "vllm:iteration_tokens_total_bucket", le="8.0") == 7
    assert value(lines, "vllm:iteration_tokens_total_bucket", le="8192.0") == 7
    assert value(lines, "vllm:iteration_tokens_total_bucket", le="16384.0") == 8
    assert value(lines, "vllm:iteration_tokens_total_bucket", le="+Inf") == 8
    assert value(lines, "vllm:iteration_tokens_total_count") == 8
    assert value(lines, "vllm:iteration_tokens_total_sum") == 9000
    assert "banyan_step_tokens_sum 9000.0" in lines


def test_labels_tell_of_the_cache_and_of_the_adapters_in_use() -> None:
    lines = scraped()
    told = {"block_size": "16", "cache_dtype": "int8", "enable_prefix_caching": "True"}
    assert value(lines, "vllm:cache_config_info", **told, swap_space="0", num_gpu_blocks="4") == 1
    used = {"running_lora_adapters": "french,legal", "waiting_lora_adapters": "legal"}
    when = value(lines, "vllm:lora_requests_info", max_lora="8", **used)
    assert when == pytest.approx(time.time(), abs=60)


def test_requests_for_vectors_are_counted_and_timed() -> None:
    async def exchange() -> str:
        async with connect(ScriptedBackend(status=ENCODER)) as client:
            body = {"model": "tiny", "input": ["ab", "cde"]}
            assert (await client.post("/v1/embeddings", json=body)).status_code == 200
            return (await client.get("/metrics")).text

    lines = asyncio.run(exchange()).splitlines()
    assert "banyan_prompts_pooled_total 2.0" in lines
    assert value(lines, "vllm:request_success_total", finished_reason="stop") == 2
    assert value(lines, "vllm:e2e_request_latency_seconds_count") == 1
    assert value(lines, "vllm:request_prompt_tokens_count") == 2
    tokens = value(lines, "vllm:prompt_tokens_total")
    assert value(lines, "vllm:request_prompt_tokens_sum") == tokens > 4


def test_a_request_for_vectors_that_fails_is_an_error_and_has_no_time() -> None:
    async def exchange() -> str:
        failing = ScriptedBackend(status=ENCODER, failure=EngineStopped("gone"))
        async with connect(failing) as client:
            body = {"model": "tiny", "input": "ab"}
            assert (await client.post("/v1/embeddings", json=body)).status_code == 503
            return (await client.get("/metrics")).text

    lines = asyncio.run(exchange()).splitlines()
    assert value(lines, "vllm:request_success_total", finished_reason="error") == 1
    assert value(lines, "vllm:e2e_request_latency_seconds_count") == 0
    assert "banyan_prompts_pooled_total 0.0" in lines


def test_an_operator_may_choose_whose_names_are_published() -> None:
    ours, theirs = scraped(metric_names="banyan"), scraped(metric_names="vllm")
    only_theirs = ("vllm:prompt_tokens", "vllm:cache_config_info", "vllm:lora_requests_info")
    named = [line for line in ours if line.startswith("vllm:")]
    assert [line for line in named if not line.startswith(only_theirs)] == []
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


def test_replicas_have_numbers_of_their_own() -> None:
    class Two(ScriptedBackend):
        def replicas(self) -> Sequence[tuple[EngineStatus, EngineStatistics | None]]:
            return [(self.status(), EngineStatistics(num_running=number)) for number in (3, 4)]

    text = Metrics(Two(), Naming("m")).render().decode()
    for number, running in ((0, 3), (1, 4)):
        assert f'banyan_requests_running{{replica="{number}"}} {running}.0' in text
        labels = f'engine="{number}",model_name="m"'
        assert f"vllm:num_requests_running{{{labels}}} {running}.0" in text
        assert f'banyan_engine_ready{{replica="{number}"}} 1.0' in text
    assert text.count("# TYPE banyan_requests_running gauge") == 1
