from pathlib import Path

import pytest

from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"BANYAN_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/banyan"),
        ({"HOME": "/c"}, "/c/.cache/banyan"),
        ({"BANYAN_CACHE": "", "HOME": "/c"}, "/c/.cache/banyan"),
    ],
)
def test_the_nearest_word_on_the_cache_counts(environment: dict[str, str], folder: str) -> None:
    assert load_settings(environment) == Settings(Path(folder))


def test_a_cache_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cache"
    file.touch()
    with pytest.raises(InputError, match="is a file; name a folder or unset it"):
        load_settings({"BANYAN_CACHE": str(file)})


def test_a_compiler_can_be_named() -> None:
    assert load_settings({"BANYAN_CXX": "clang++"}).compiler_command == "clang++"
    assert load_settings({"BANYAN_CXX": ""}).compiler_command is None


@pytest.mark.parametrize(
    ("word", "offline"), [("1", True), ("True", True), ("on", True), ("0", False), ("", False)]
)
def test_offline_is_read_as_the_hub_library_reads_it(word: str, offline: bool) -> None:
    assert load_settings({"HF_HUB_OFFLINE": word}).offline is offline
