"""Decode at the end of a context of 131,072 tokens, and say what the process took of memory.

    python -m benchmarks.long_context MODEL [--context 131072] [--format int4:int4]

Prompts are not computed: that takes hours on two cores and says nothing of decoding. Instead every
page of the cache is written with numbers drawn by chance, so all of it is resident and read, and
the whole engine then steps at the end of that context. A model made for less is copied with a
larger `max_position_embeddings`; its answers mean nothing there.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from banyan.compiler.executable import Executable
from banyan.engine.engine import Engine
from banyan.engine.options import EngineOptions
from banyan.engine.sampling import SamplingOptions
from banyan.engine.starting.loading import load_model
from banyan.foundation.settings import load_settings
from benchmarks.engine_formats import SkippingModel

STEPS = 8


def lengthened(model: Path, folder: Path, context: int) -> Path:
    """The same model for longer texts: its files are linked, its configuration is changed."""
    for file in model.iterdir():
        if file.name != "config.json":
            (folder / file.name).symlink_to(file.resolve())
    configuration = json.loads((model / "config.json").read_text(encoding="utf-8"))
    longest = max(context, configuration["max_position_embeddings"])
    changed = {**configuration, "max_position_embeddings": longest}
    (folder / "config.json").write_text(json.dumps(changed), encoding="utf-8")
    return folder


def fill(executable: Executable, num_blocks: int) -> None:
    """Write every block of every state with finite numbers that are neither zero nor all alike."""
    generator = np.random.default_rng(1)
    for argument in executable.inputs:
        if argument.role != "state":
            continue
        shape = tuple(int(str(dim)) for dim in argument.type.shape[1:])
        dtype = argument.type.dtype.numpy
        if dtype == np.float32:
            pattern = generator.random((16, *shape), np.float32) / 100
        else:
            drawn = generator.integers(0, 60, (16, *shape, dtype.itemsize), np.uint8)
            pattern = drawn.view(dtype)[..., 0]
        whole = np.resize(pattern, (num_blocks, *shape))
        executable.write_state(argument.name, whole)


def measure(model: Path, name: str, context: int, threads: int | None) -> None:
    """Load a model in the format `weights:cache`, fill its cache, step, print."""
    weights, cache = name.split(":")
    options = EngineOptions(
        threads=threads,
        quantization=None if weights == "bfloat16" else weights,
        kv_cache_dtype="auto" if cache == "bfloat16" else cache,
        max_model_len=context,
        max_num_seqs=1,
        max_num_batched_tokens=1024,
        enable_prefix_caching=False,
    )
    loaded = load_model(str(model), options, settings=load_settings(os.environ))
    vocab_size = loaded.directory.decoder_configuration().vocab_size
    fill(loaded.executable, loaded.engine.limits.num_blocks)
    skipping = SkippingModel(loaded.executable, vocab_size)
    engine = Engine(
        skipping, loaded.engine.limits, vocab_size=vocab_size, enable_prefix_caching=False
    )
    prompt = np.random.default_rng(2).integers(10, vocab_size, context - 2 * STEPS).tolist()
    engine.add_request("long", prompt, SamplingOptions(temperature=0.0, ignore_eos=True))
    while not engine.step():
        pass
    skipping.skips = False
    engine.step()
    began = time.perf_counter()
    for _ in range(STEPS):
        engine.step()
    milliseconds = (time.perf_counter() - began) / STEPS * 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{name}: context {context}, {milliseconds:.0f} ms for each token, "
        f"peak resident {peak:.2f} GiB",
        flush=True,
    )
    loaded.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--context", type=int, default=131072)
    parser.add_argument("--format", default="int8:int8", help="weights:cache")
    parser.add_argument("--threads", type=int, default=None)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = lengthened(chosen.model, Path(folder), chosen.context)
        measure(model, chosen.format, chosen.context, chosen.threads)


if __name__ == "__main__":
    main()
