"""How much memory loading a model takes at its peak."""

import json
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.models.checkpoints import change_json, make_checkpoint

ALLOWANCE_BYTES = 300 * 2**20
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
report = llm._open().executable.report
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


@pytest.mark.end_to_end
def test_loading_peaks_at_a_seventh_over_the_packed_model_and_300_megabytes(
    tmp_path: Path,
) -> None:
    directory = make_checkpoint("llama", tmp_path / "model", dtype="bfloat16")
    write_weights(directory)
    change_json(directory / "config.json", **SHAPE)

    def load() -> dict[str, int]:
        done = subprocess.run(
            [sys.executable, "-c", LOAD, str(directory)],
            capture_output=True,
            check=True,
            text=True,
            env={"BANYAN_CACHE": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"},
        )
        result: dict[str, int] = json.loads(done.stdout)
        return result

    load()  # fills the cache of graphs and programs
    warm = load()
    assert not warm["torch"], "a warm start imported torch"
    assert warm["weights"] > 190e6
    limit = 1.15 * warm["weights"] + ALLOWANCE_BYTES
    assert warm["peak"] <= limit, f"{warm['peak'] / 2**20:.0f} MiB over {limit / 2**20:.0f} MiB"
