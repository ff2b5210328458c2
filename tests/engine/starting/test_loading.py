"""The small decisions of loading a model; whole models are in test_llm and test_embedder."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from banyan.compiler.compile import compile_graph
from banyan.devices.discovery import find_device
from banyan.engine.options import EngineOptions
from banyan.engine.sampling import SamplingOptions
from banyan.engine.starting import loading
from banyan.engine.starting.compiling import choose_dtype
from banyan.foundation.errors import CompilerMissing, InputError
from banyan.foundation.settings import Settings
from banyan.models.loading import GenerationDefaults
from tests.conftest import Checkpoint


@pytest.mark.parametrize(
    ("asked", "stored", "chosen"),
    [
        ("auto", "bfloat16", "bfloat16"),
        ("auto", "float16", "bfloat16"),
        ("auto", "float32", "float32"),
        ("auto", None, "float32"),
        ("float32", "bfloat16", "float32"),
        ("bfloat16", "float32", "bfloat16"),
    ],
)
def test_the_dtype_is_the_one_asked_for_or_the_checkpoint_s(
    asked: str, stored: str | None, chosen: str
) -> None:
    assert choose_dtype(asked, stored) == chosen


def test_a_model_s_proposals_become_options_and_gaps_stay_ours() -> None:
    assert loading.options_from_defaults(GenerationDefaults()) == SamplingOptions()
    proposed = GenerationDefaults(temperature=0.6, top_k=20)
    assert loading.options_from_defaults(proposed) == SamplingOptions(temperature=0.6, top_k=20)


def test_free_memory_is_some_and_not_more_than_a_machine_has() -> None:
    assert 10**7 < loading.free_memory_bytes() < 10**14


def test_without_a_compiler_the_interpreter_answers_and_a_warning_says_so(
    checkpoint: Checkpoint,
    program_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def without_compiler(
        graph: Any, *, device: Any, options: Any, target: str | None = None
    ) -> Any:
        if target is None:
            raise CompilerMissing("no C++ compiler was found")
        return compile_graph(graph, device=device, target=target, options=options)

    monkeypatch.setattr("banyan.engine.starting.compiling.compile_graph", without_compiler)
    options = EngineOptions(dtype="float32", threads=1, max_model_len=32, max_num_seqs=1)
    with caplog.at_level(logging.WARNING, logger="banyan.engine"):
        loaded = loading.load_model(
            str(checkpoint("llama")), options, settings=Settings(cache_directory=program_cache)
        )
    assert "no C++ compiler was found; running on the interpreter" in caplog.text
    loaded.engine.add_request("a", [5, 6, 7], SamplingOptions(temperature=0.0, max_tokens=2))
    tokens = []
    while loaded.engine.has_work():
        tokens += [token for event in loaded.engine.step() for token in event.token_ids]
    assert len(tokens) == 2
    loaded.close()


def test_a_device_is_closed_again_when_the_model_does_not_fit(
    checkpoint: Checkpoint, program_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    def watched(name: str, **options: Any) -> Any:
        device = find_device(name, **options)
        close = device.close

        def watched_close(self: Any) -> None:
            closed.append(1)
            close()

        monkeypatch.setattr(type(device), "close", watched_close)
        return device

    monkeypatch.setattr("banyan.engine.starting.loading.find_device", watched)
    with pytest.raises(InputError, match="max_model_len=99999 is more than the 2048 tokens"):
        loading.load_model(
            str(checkpoint("llama")),
            EngineOptions(max_model_len=99999, threads=1),
            settings=Settings(cache_directory=program_cache),
        )
    assert closed == [1]


WARM_START = """
import sys
from pathlib import Path
from banyan.engine.starting.loading import load_model
from banyan.engine.options import EngineOptions
from banyan.foundation.settings import Settings
directory, cache = sys.argv[1:]
options = EngineOptions(threads=1, max_model_len=32, max_num_seqs=1)
loaded = load_model(directory, options, settings=Settings(cache_directory=Path(cache)))
print(loaded.executable.report.cached, "torch" in sys.modules)
"""


def test_a_warm_start_compiles_nothing_and_imports_no_torch(
    checkpoint: Checkpoint, fresh_cache: Path
) -> None:
    directory = str(checkpoint("llama"))
    options = EngineOptions(threads=1, max_model_len=32, max_num_seqs=1)
    cold = loading.load_model(directory, options, settings=Settings(cache_directory=fresh_cache))
    assert not cold.executable.report.cached
    cold.close()
    done = subprocess.run(
        [sys.executable, "-c", WARM_START, directory, str(fresh_cache)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False"]


def test_weights_that_are_missing_are_named_before_anything_is_compiled(
    checkpoint: Checkpoint, program_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = shutil.copytree(checkpoint("llama"), tmp_path / "llama")
    tensors = load_file(directory / "model.safetensors")
    del tensors["model.norm.weight"], tensors["lm_head.weight"]
    save_file(tensors, directory / "model.safetensors")

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("compiled a model that lacks weights")

    monkeypatch.setattr("banyan.engine.starting.compiling.compile_graph", never)
    with pytest.raises(InputError, match=r"lacks tensors .* asks for: .*model\.norm\.weight"):
        loading.load_model(
            str(directory),
            EngineOptions(threads=1, max_model_len=32, max_num_seqs=1),
            settings=Settings(cache_directory=program_cache),
        )


def test_packed_weights_of_the_first_start_serve_the_second_with_the_same_tokens(
    checkpoint: Checkpoint, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("banyan.engine.starting.warm_start.SMALLEST_BYTES", 0)
    options = EngineOptions(threads=1, max_model_len=32, max_num_seqs=1)
    stages: list[str] = []

    def tokens() -> list[int]:
        stages.clear()
        loaded = loading.load_model(
            str(checkpoint("llama")),
            options,
            settings=Settings(cache_directory=fresh_cache),
            progress=lambda stage, done, total: stages.append(stage),
        )
        loaded.engine.add_request("a", [5, 6, 7], SamplingOptions(temperature=0.0, max_tokens=6))
        written = []
        while loaded.engine.has_work():
            written += [token for event in loaded.engine.step() for token in event.token_ids]
        loaded.close()
        return written

    first = tokens()
    assert "Packing weights" in stages
    assert tokens() == first
    assert "Packing weights" not in stages
    (entry,) = (fresh_cache / "packed").iterdir()
    entry.write_bytes(b"damaged")
    assert tokens() == first
    assert "Packing weights" in stages
