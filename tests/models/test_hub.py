"""Finding a model; the hub is a server of this test, reached as a mirror in a fresh process."""

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest

from banyan.foundation.errors import ModelError
from banyan.models.hub import find_model_directory
from tests.conftest import Checkpoint
from tests.models.hub_server import serve_hub

MODEL_ID = "banyan-tests/tiny-llama"


def find_in_fresh_process(
    model_id: str, home: Path, *, endpoint: str, offline: bool = False
) -> subprocess.CompletedProcess[str]:
    """Resolve a model where HF_ENDPOINT is read anew; prints the directory or the error."""
    code = (
        "from banyan.foundation.errors import ModelError\n"
        "from banyan.models.hub import find_model_directory\n"
        "try:\n"
        f"    print(find_model_directory({model_id!r}, offline={offline!r}))\n"
        "except ModelError as error:\n"
        "    print('ModelError:', error)\n"
    )
    environment = {
        **os.environ,
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=120,
    )


def test_a_directory_on_this_machine_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find_model_directory(str(tmp_path)) == tmp_path


def test_a_local_directory_wins_over_a_hub_id_of_the_same_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_model_directory("org/name") == Path("org/name")


def test_a_file_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"config\.json is a file; name the model directory"):
        find_model_directory(str(tmp_path / "config.json"))


@pytest.mark.parametrize("name", ["/no/such/model", "./missing", "a/b/c", "nothing", "", "../a"])
def test_what_is_neither_directory_nor_id_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="there is no model directory"):
        find_model_directory(name)


@pytest.mark.parametrize("name", ["a" * 300, "~nobody-of-this-name/model"])
def test_a_name_that_cannot_be_looked_up_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="cannot be looked up as a model directory"):
        find_model_directory(name)


def test_a_hub_id_is_downloaded_from_the_mirror_and_then_found_offline(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in checkpoint("llama").iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    (source / "pytorch_model.bin").write_bytes(b"not wanted")
    (source / "consolidated.safetensors").write_bytes(b"the same weights again")
    home = tmp_path / "home"
    with serve_hub(MODEL_ID, source) as (endpoint, requested):
        online = find_in_fresh_process(MODEL_ID, home, endpoint=endpoint)
    directory = Path(online.stdout.strip())
    assert (directory / "config.json").read_bytes() == (source / "config.json").read_bytes()
    assert (directory / "model.safetensors").is_file()
    assert not {"pytorch_model.bin", "consolidated.safetensors"} & set(requested)
    offline = find_in_fresh_process(MODEL_ID, home, endpoint=endpoint, offline=True)
    assert offline.stdout == online.stdout


def test_an_id_that_the_hub_does_not_know_is_refused_in_one_line(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with serve_hub(MODEL_ID, checkpoint("llama")) as (endpoint, _):
        found = find_in_fresh_process("banyan-tests/other", tmp_path, endpoint=endpoint)
    assert found.stdout.startswith("ModelError: there is no directory 'banyan-tests/other', and")
    assert len(found.stdout.splitlines()) == 1


def test_offline_and_not_in_the_cache_is_said_so(tmp_path: Path) -> None:
    found = find_in_fresh_process(
        "banyan-tests/other", tmp_path, endpoint="http://127.0.0.1:9", offline=True
    )
    assert "not in the local cache, and downloads are off (HF_HUB_OFFLINE)" in found.stdout


def test_a_failure_of_the_disk_during_a_download_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelError, match=r"downloading 'org/name' failed: .*No space left"):
        find_model_directory("org/name")


def test_an_error_without_words_is_named_by_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise ValueError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelError, match=r"downloading 'org/name' failed: ValueError$"):
        find_model_directory("org/name")
