"""Adapters of an engine in another process: loaded, asked for, and there again after a crash."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from banyan.engine.fake import fake_engine
from banyan.engine.options import EngineOptions
from banyan.engine.process.adapter_desk import AdapterDesk, FinishedRead
from banyan.engine.process.client import EngineClient
from banyan.engine.process.messages import EngineSettings, LoadAdapter, UnloadAdapter
from banyan.engine.process.supervisor import RestartPolicy
from banyan.engine.request_context import RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import InputError, RequestError

SHORT = SamplingOptions(max_tokens=6, temperature=0)


def make(folder: Path, name: str) -> str:
    """An adapter of the fake model."""
    (folder / name).mkdir()
    (folder / name / "adapter_config.json").write_text(name)
    return str(folder / name)


def settings(**options: object) -> EngineSettings:
    """A fake engine with room for two adapters."""
    chosen = EngineOptions(max_model_len=500, max_loras=2, **options)  # type: ignore[arg-type]
    return EngineSettings(
        model="fake", options=chosen, cache_directory="/none", heartbeat_seconds=0.05
    )


async def write(client: EngineClient, number: int, adapter: str | None) -> str:
    context = RequestContext(adapter=adapter)
    events = client.generate(f"request-{number}", [1, 2], SHORT, context)
    return "".join([event.text async for event in events])


def names(client: EngineClient) -> list[str]:
    model = client.status().model
    assert model is not None
    return [adapter.name for adapter in model.adapters]


@pytest.mark.end_to_end
def test_adapters_come_and_go_and_outlive_the_process(tmp_path: Path) -> None:
    poems, prose = make(tmp_path, "poems"), make(tmp_path, "prose")

    async def whole() -> None:
        chosen = settings(enable_lora=True, lora_modules=(("poems", poems),))
        client = EngineClient(chosen, policy=RestartPolicy())
        try:
            await client.start()
            assert names(client) == ["poems"]
            await client.load_adapter("prose", prose)
            assert names(client) == ["poems", "prose"]
            texts = [await write(client, i, n) for i, n in enumerate([None, "poems", "prose"])]
            assert len(set(texts)) == 3
            with pytest.raises(RequestError, match="already loaded"):
                await client.load_adapter("prose", poems)
            with pytest.raises(RequestError, match="cannot be read") as caught:
                await client.load_adapter("other", str(tmp_path / "other"))
            assert caught.value.parameter == "lora_path"

            (tmp_path / "poems" / "adapter_config.json").unlink()
            process_id = client.process_id
            assert process_id is not None
            os.kill(process_id, signal.SIGKILL)
            while client.status().num_restarts == 0 or client.status().state != "ready":
                await asyncio.sleep(0.02)
            assert names(client) == ["prose"]
            assert await write(client, 7, "prose") == texts[2]
            with pytest.raises(RequestError, match="no adapter 'poems'"):
                await write(client, 8, "poems")
            await client.unload_adapter("prose")
            assert names(client) == []
            with pytest.raises(RequestError, match="no adapter 'prose'"):
                await client.unload_adapter("prose")
        finally:
            await client.close()

    asyncio.run(asyncio.wait_for(whole(), timeout=60))


@pytest.mark.end_to_end
def test_an_engine_whose_adapter_cannot_be_read_does_not_start(tmp_path: Path) -> None:
    async def whole() -> None:
        client = EngineClient(settings(lora_modules=(("poems", str(tmp_path / "no")),)))
        try:
            with pytest.raises(InputError, match="the adapter 'poems' cannot be loaded"):
                await client.start()
        finally:
            await client.close()

    asyncio.run(asyncio.wait_for(whole(), timeout=60))


def test_a_desk_without_a_library_refuses() -> None:
    desk = AdapterDesk(None)
    with pytest.raises(RequestError, match="--enable-lora"):
        desk.load(LoadAdapter("1", "poems", "/x"))
    with pytest.raises(RequestError, match="--enable-lora"):
        desk.unload(UnloadAdapter("1", "poems"))


def test_two_loads_of_one_name_at_once_do_not_take_each_others_place(tmp_path: Path) -> None:
    library = fake_engine(num_slots=1).adapters
    desk = AdapterDesk(library)
    path = make(tmp_path, "poems")
    desk.load(LoadAdapter("1", "poems", path))
    desk.load(LoadAdapter("2", "poems", path))
    desk.load(LoadAdapter("3", "poems", path, replaces=True))
    reads: list[FinishedRead] = []
    while len(reads) < 3:
        reads += desk.take_read()
    assert not desk.is_busy
    assert [facts.name for facts in desk.finish(reads[0])] == ["poems"]
    with pytest.raises(RequestError, match="already loaded"):
        desk.finish(reads[1])
    assert [facts.path for facts in desk.finish(reads[2])] == [path]
    desk.close()
