"""A real server with adapters, driven by the real SDK as vLLM's users do."""

import threading
from pathlib import Path

import httpx
import openai
import pytest

from banyan.models.loading import open_model
from tests.conftest import Checkpoint
from tests.end_to_end.servers import running_server
from tests.models.adapters.files import make_adapter

pytestmark = pytest.mark.end_to_end


def write_fake(folder: Path, name: str) -> str:
    (folder / name).mkdir()
    (folder / name / "adapter_config.json").write_text(name)
    return str(folder / name)


def test_adapters_are_loaded_asked_for_and_dropped_while_others_write(tmp_path: Path) -> None:
    poems, prose = (write_fake(tmp_path, name) for name in ("poems", "prose"))
    options = ["--enable-lora", "--max-loras", "1", "--lora-modules", f"poems={poems}"]
    with running_server("fake", options) as server:
        sdk = server.sdk()
        asked = {"prompt": "Hi", "max_tokens": 6, "temperature": 0}

        def write(model: str) -> str:
            return sdk.completions.create(model=model, **asked).choices[0].text  # type: ignore[no-any-return, call-overload]

        first = {model: write(model) for model in ("fake", "poems")}
        busy = threading.Event()

        def keep_writing() -> None:
            while not busy.is_set():
                assert write("fake") == first["fake"]
                assert write("poems") == first["poems"]

        traffic = threading.Thread(target=keep_writing)
        traffic.start()
        try:
            for _ in range(5):
                body = {"lora_name": "prose", "lora_path": prose}
                reply = httpx.post(f"{server.url}/v1/load_lora_adapter", json=body)
                assert reply.status_code == 200, reply.text
                assert [model.id for model in sdk.models.list()] == ["fake", "poems", "prose"]
                assert len({*first.values(), write("prose")}) == 3
                gone = {"lora_name": "prose"}
                assert httpx.post(f"{server.url}/v1/unload_lora_adapter", json=gone).is_success
                with pytest.raises(openai.NotFoundError, match="'prose' is not served here"):
                    write("prose")
        finally:
            busy.set()
            traffic.join()


@pytest.mark.wide
def test_a_compiled_model_serves_adapters_of_peft(
    checkpoint: Checkpoint, tmp_path: Path, program_cache: dict[str, str]
) -> None:
    base = checkpoint("qwen3")
    configuration = open_model(str(base)).decoder_configuration()
    path = make_adapter(tmp_path / "poems", configuration, size=0.2)
    other = make_adapter(tmp_path / "large", configuration, rank=32)
    options = ["--enable-lora", "--threads", "2", "--max-model-len", "64", "--served-model-name"]
    with running_server(str(base), [*options, "tiny"], environment=program_cache) as server:
        body = {"lora_name": "poems", "lora_path": str(path)}
        assert httpx.post(f"{server.url}/v1/load_lora_adapter", json=body, timeout=60).is_success
        texts = {
            model: server.sdk().completions.create(
                model=model, prompt="A banyan", max_tokens=12, temperature=0
            )
            for model in ("tiny", "poems")
        }
        assert texts["tiny"].choices[0].text != texts["poems"].choices[0].text
        body = {"lora_name": "large", "lora_path": str(other)}
        reply = httpx.post(f"{server.url}/v1/load_lora_adapter", json=body, timeout=60)
        assert reply.status_code == 400
        assert "rank 32, more than max_lora_rank=16" in reply.json()["error"]["message"]
