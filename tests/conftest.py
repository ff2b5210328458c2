"""Fixtures that more than one layer's tests use."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

Checkpoint = Callable[..., Path]

PROGRAM_CACHE = Path(__file__).parent.parent / "build" / "test-cache"
"""Captured graphs and built programs of tests, kept from run to run: their names are digests of
their content. Never the cache of the person who runs the tests."""


# The default tests judge a change, so they draw the same examples until a test changes; `make wide`
# draws new ones. Wall time judges nobody: the machine may be busy.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("searching", deadline=None)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """Point everything that asks the environment, child processes too, at `PROGRAM_CACHE`.

    Triton reads its variable when it is first imported, and other tests may do that.
    """
    os.environ["BANYAN_CACHE"] = str(PROGRAM_CACHE)
    os.environ["TRITON_INTERPRET"] = "1"
    os.environ["POCL_CACHE_DIR"] = str(PROGRAM_CACHE / "pocl")


@pytest.fixture(scope="session")
def program_cache() -> Path:
    """Give the folder of captured graphs and built programs that tests share."""
    return PROGRAM_CACHE


@pytest.fixture
def fresh_cache(program_cache: Path, tmp_path: Path) -> Path:
    """Give a folder without graphs and programs; what the compiler built is still shared.

    Objects are found by their whole text, so that nothing is believed that would not be built.
    """
    folder, objects = tmp_path / "fresh", program_cache / "objects"
    folder.mkdir()
    objects.mkdir(parents=True, exist_ok=True)
    (folder / "objects").symlink_to(objects)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Give the directory of a tiny checkpoint: `checkpoint("llama", dtype="bfloat16")`.

    Each is written once per session; a test that changes a file copies the directory first.
    """
    made: dict[tuple[str, str, int | None], Path] = {}

    def make(kind: str, *, dtype: str = "float32", shard_bytes: int | None = None) -> Path:
        from tests.models.checkpoints import make_checkpoint  # noqa: PLC0415  (imports torch)

        key = (kind, dtype, shard_bytes)
        if key not in made:
            directory = tmp_path_factory.mktemp(f"{kind}-{dtype}")
            made[key] = make_checkpoint(kind, directory, dtype=dtype, shard_bytes=shard_bytes)
        return made[key]

    return make
