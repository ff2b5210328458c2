"""The whole server with tiny checkpoints that our own compiler compiled."""

import asyncio
import math
import os
import shutil
import signal
import subprocess
from os import kill
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from banyan.cli.compile import run_compile
from banyan.client import Client
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.profile import DeviceProfile, fingerprint_of, save_profile
from banyan.foundation.settings import Settings
from tests.conftest import Checkpoint
from tests.end_to_end.servers import Server, running_server, serve_command, wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

HELLO: ChatCompletionUserMessageParam = {"role": "user", "content": "What is a banyan?"}


def prompt(number: int) -> str:
    """Prompts of very different lengths, so that prefill and decode mix in every step."""
    return f"{number} The people above never see the chip. " * (1 + number % 7 * 3)


def test_a_chat_streams_the_same_text_as_it_answers_whole(real_server: Server) -> None:
    sdk = real_server.sdk()
    whole = sdk.chat.completions.create(
        model="tiny", messages=[HELLO], max_tokens=12, temperature=0, logprobs=True
    )
    stream = sdk.chat.completions.create(
        model="tiny", messages=[HELLO], max_tokens=12, temperature=0, stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == whole.choices[0].message.content
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert whole.usage is not None
    assert len(logprobs.content) == whole.usage.completion_tokens
    assert all(token.logprob <= 0 for token in logprobs.content)


def test_a_seed_reproduces_its_answer(real_server: Server) -> None:
    def write(seed: int) -> str:
        reply = real_server.sdk().completions.create(
            model="tiny", prompt="One two", max_tokens=20, temperature=1.0, seed=seed
        )
        return reply.choices[0].text

    assert write(1) == write(1)
    assert write(1) != write(2)


def test_64_clients_streaming_at_once_get_exactly_what_they_get_alone(real_server: Server) -> None:
    async def ask(sdk: openai.AsyncOpenAI, number: int) -> str:
        stream = await sdk.completions.create(
            model="tiny",
            prompt=prompt(number),
            max_tokens=12,
            temperature=0,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        return "".join([chunk.choices[0].text async for chunk in stream])

    async def ask_all() -> tuple[list[str], list[str]]:
        async with real_server.async_sdk() as sdk:
            together = await asyncio.gather(*(ask(sdk, number) for number in range(64)))
            alone = [await ask(sdk, number) for number in range(64)]
        return together, alone

    together, alone = asyncio.run(ask_all())
    assert together == alone


def test_20_clients_that_hang_up_leave_no_block_behind(real_server: Server) -> None:
    async def begin_and_leave(sdk: openai.AsyncOpenAI, number: int) -> None:
        stream = await sdk.completions.create(
            model="tiny",
            prompt=prompt(number),
            max_tokens=1000,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        await anext(aiter(stream))
        await stream.close()

    async def all_of_them() -> None:
        async with real_server.async_sdk() as sdk:
            await asyncio.gather(*(begin_and_leave(sdk, number) for number in range(20)))

    asyncio.run(all_of_them())
    wait_until("every request ends", lambda: real_server.metric("banyan_requests_running") == 0)
    assert real_server.metric("banyan_requests_waiting") == 0
    assert real_server.metric("banyan_blocks_free") == real_server.metric("banyan_blocks")


def test_a_prompt_longer_than_the_context_is_refused(real_server: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="at most 2047"):
        real_server.sdk().completions.create(model="tiny", prompt=[5] * 3000)


def test_nothing_of_the_decoder_stays_outside_our_kernels(real_server: Server) -> None:
    report = Client(real_server.url).report()["report"]
    assert report["compiled"]["coverage"] == 1.0
    assert report["compiled"]["externs"] == []
    assert report["device"] == "cpu"


def test_a_warm_start_is_quick_without_torch_and_serves_again_after_a_kill(
    real_server: Server, checkpoint: Checkpoint, program_cache: dict[str, str]
) -> None:
    assert real_server.process.poll() is None  # it compiled what this one finds
    options = ["--served-model-name", "tiny", "--threads", "2"]
    model = str(checkpoint("llama"))
    with running_server(model, options, environment=program_cache) as server:
        number = server.engine_process_id()
        # Processor time, because other work on the machine must not fail this test.
        assert processor_seconds(number) + processor_seconds(server.process.pid) < 5.0
        assert "libtorch" not in Path(f"/proc/{number}/maps").read_text()
        assert "libtorch" not in Path(f"/proc/{server.process.pid}/maps").read_text()
        assert Client(server.url).report()["report"]["compiled"]["cached"] is True
        kill(number, signal.SIGKILL)
        wait_until(
            "the engine is started again",
            lambda: "banyan_engine_restarts_total 1.0" in httpx.get(f"{server.url}/metrics").text,
        )
        wait_until("the engine is back", lambda: Client(server.url).health().status == "ready")
        assert ask_once(server)


def processor_seconds(process_id: int) -> float:
    """Read how long a process has computed (fields 14 and 15 of proc_pid_stat(5))."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask_once(server: Server) -> str:
    answer = server.sdk().completions.create(
        model="tiny",
        prompt="a",
        max_tokens=4,
        temperature=0,
        extra_body={"ignore_eos": True, "skip_special_tokens": False},
    )
    return answer.choices[0].text


def test_compiling_ahead_reports_full_coverage(
    real_server: Server,
    checkpoint: Checkpoint,
    program_cache: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert real_server.process.poll() is None
    settings = Settings(cache_directory=Path(program_cache["BANYAN_CACHE"]))
    save_profile(some_profile(), settings.cache_directory)
    run_compile(
        str(checkpoint("llama")),
        device="auto",
        dtype="auto",
        details=True,
        settings=settings,
        dump=tmp_path / "dump",
    )
    said = capsys.readouterr().out
    assert "100.0 % of the compute nodes in our kernels" in said
    assert "from the cache" in said
    for title in ("a prompt of 512 tokens", "16 answers after 512 tokens"):
        timeline = said.partition(title)[2].partition("answer")[0]
        assert "paged_attention_0" in timeline
        assert "linear" in timeline
    page = (tmp_path / "dump" / "index.html").read_text()
    assert "an answer after 512 tokens" in page


def some_profile() -> DeviceProfile:
    """What a machine like this one can do, so that the test need not measure it."""
    facts = CpuProbe().inventory()[0]
    return DeviceProfile(
        fingerprint=fingerprint_of(facts, num_threads=facts.cores),
        model=facts.model,
        measured_on="2026-01-01",
        num_threads=facts.cores,
        read_bytes_per_second=4e10,
        read_bytes_per_second_one_thread=3e10,
        copy_bytes_per_second=4e10,
        operations_per_second=(("float32", 2e11), ("bfloat16", 4e11), ("int8", 8e11)),
        operations_per_second_one_thread=(("float32", 1e11),),
        launch_seconds=1e-6,
    )


def test_without_a_compiler_the_interpreter_serves_with_a_clear_warning(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    # A cache of its own: a program that is already built needs no compiler.
    environment = {"BANYAN_CACHE": str(tmp_path), "BANYAN_CXX": "/no/such/compiler"}
    options = ["--served-model-name", "tiny", "--max-model-len", "64", "--dtype", "bfloat16"]
    with running_server(str(checkpoint("llama")), options, environment=environment) as server:
        assert ask_once(server)
        assert "no C++ compiler was found" in server.log.read_text()
        assert Client(server.url).report()["report"]["compiled"]["target"] == "interpreter"


def test_a_truncated_checkpoint_is_one_sentence_and_exit_code_1(
    checkpoint: Checkpoint, program_cache: dict[str, str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint("llama"), broken)
    os.truncate(broken / "model.safetensors", 1000)
    ended = subprocess.run(
        serve_command(str(broken)),
        env=os.environ | program_cache,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "is truncated" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_embeddings_are_of_length_one_and_the_same_in_both_encodings(
    encoder_server: Server,
) -> None:
    sdk = encoder_server.sdk()
    texts = ["A banyan is one tree.", "\u6995\u6811"]
    floats = sdk.embeddings.create(model="tiny", input=texts, encoding_format="float")
    assert [item.index for item in floats.data] == [0, 1]
    for item in floats.data:
        assert math.isclose(math.hypot(*item.embedding), 1.0, rel_tol=1e-5)
    packed = sdk.embeddings.create(model="tiny", input=texts)  # base64 under the hood
    assert [item.embedding for item in packed.data] == [item.embedding for item in floats.data]
    with pytest.raises(openai.BadRequestError, match="makes embeddings only"):
        sdk.completions.create(model="tiny", prompt="a")
