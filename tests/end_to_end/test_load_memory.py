"""How much memory loading and serving a model takes at its peak, cold and warm."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.end_to_end.servers import Server, running_server
from tests.models.checkpoints import change_json, make_checkpoint

pytestmark = pytest.mark.end_to_end

LOADING_BYTES = 300 * 2**20
SERVING_BYTES = 400 * 10**6
SHAPE = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 64,
}

LOAD = """
import json, sys
from banyan import LLM
llm = LLM(sys.argv[1], dtype="bfloat16", max_model_len=64, max_num_seqs=1)
llm._open()
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
report = llm._open().first.executable.report
print(json.dumps({"peak": int(peak.split()[1]) * 1024, "weights": report.weight_bytes,
                  "torch": "torch" in sys.modules}))
"""


def write_weights(directory: Path) -> None:
    """Replace the checkpoint's weights by random ones of `SHAPE`, in one safetensors file."""
    hidden, inner = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    queries = SHAPE["num_attention_heads"] * SHAPE["head_dim"]
    keys = SHAPE["num_key_value_heads"] * SHAPE["head_dim"]
    vocabulary = json.loads((directory / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    shapes = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "lm_head.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(SHAPE["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {
            f"{prefix}input_layernorm.weight": (hidden,),
            f"{prefix}post_attention_layernorm.weight": (hidden,),
            f"{prefix}self_attn.q_proj.weight": (queries, hidden),
            f"{prefix}self_attn.k_proj.weight": (keys, hidden),
            f"{prefix}self_attn.v_proj.weight": (keys, hidden),
            f"{prefix}self_attn.o_proj.weight": (hidden, queries),
            f"{prefix}mlp.gate_proj.weight": (inner, hidden),
            f"{prefix}mlp.up_proj.weight": (inner, hidden),
            f"{prefix}mlp.down_proj.weight": (hidden, inner),
        }
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = np.random.default_rng(0)
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            numbers: NDArray[np.float32] = generator.standard_normal(shape, dtype=np.float32)
            file.write((numbers * np.float32(0.02)).astype(ml_dtypes.bfloat16).tobytes())


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What a server left that had to capture, compile and pack, and was then kept busy.

    Attributes:
        model: its directory.
        cache: what it kept.
        peak_bytes: most that its engine process held.
        mapped: the files that process had mapped in the end.
    """

    model: Path
    cache: Path
    peak_bytes: int
    mapped: str


READERS, PROMPT, ANSWER = 16, 100, 24


@pytest.fixture(scope="module")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> FirstStart:
    """Serve a model of 190 MB of weights for the first time."""
    folder = tmp_path_factory.mktemp("first")
    directory = make_checkpoint("llama", folder / "model", dtype="bfloat16")
    cache = folder / "cache"
    write_weights(directory)
    change_json(directory / "config.json", **SHAPE)
    options = ["--max-model-len", "512", "--max-num-seqs", str(READERS), "--threads", "2"]
    environment = {"BANYAN_CACHE": str(cache)}
    with running_server(str(directory), options, environment=environment) as server:
        asyncio.run(keep_busy(server))
        process = Path(f"/proc/{server.engine_process_id()}")
        mapped = (process / "maps").read_text()
        return FirstStart(directory, cache, peak_of(process / "status"), mapped)


async def keep_busy(server: Server) -> None:
    """Read and write with all places taken."""

    async def ask(number: int) -> None:
        prompt = [3 + (number * 17 + place) % 300 for place in range(PROMPT)]
        async with server.async_sdk() as sdk:
            answer = await sdk.completions.create(
                model=server.name,
                prompt=prompt,
                max_tokens=ANSWER,
                extra_body={"ignore_eos": True},
            )
        assert answer.usage is not None
        assert answer.usage.completion_tokens == ANSWER

    await asyncio.gather(*(ask(number) for number in range(READERS)))


def peak_of(status: Path) -> int:
    """The most bytes a process ever held."""
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_a_first_start_never_brings_torch_into_the_process_that_serves(
    first_start: FirstStart,
) -> None:
    assert "numpy" in first_start.mapped
    assert "libtorch" not in first_start.mapped


def test_a_server_that_captures_compiles_and_packs_stays_within_weights_cache_and_400_megabytes(
    first_start: FirstStart,
) -> None:
    heads, size = SHAPE["num_key_value_heads"], SHAPE["head_dim"]
    token_bytes = 2 * 2 * SHAPE["num_hidden_layers"] * heads * size
    cache_bytes = READERS * (PROMPT + ANSWER) * token_bytes
    weight_bytes = (first_start.model / "model.safetensors").stat().st_size
    assert weight_bytes > 190e6
    limit = weight_bytes + cache_bytes + SERVING_BYTES
    assert first_start.peak_bytes <= limit, f"{first_start.peak_bytes / 1e6:.0f} MB"


@pytest.mark.wide
def test_a_warm_load_peaks_at_a_seventh_over_the_packed_model_and_300_megabytes(
    first_start: FirstStart,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(first_start.model)],
        capture_output=True,
        check=True,
        text=True,
        env=os.environ | {"BANYAN_CACHE": str(first_start.cache)},
    )
    warm = json.loads(done.stdout)
    assert not warm["torch"], "a warm start imported torch"
    assert warm["weights"] > 190e6
    limit = 1.15 * warm["weights"] + LOADING_BYTES
    assert warm["peak"] <= limit, f"{warm['peak'] / 2**20:.0f} MiB over {limit / 2**20:.0f} MiB"
