"""Measure what quantised keys and values cost in accuracy: `python -m tools.measure_kv_cache`.

Runs the shipped seedling over conversations that it was not trained on, with keys and values in
bfloat16 and in each format, compares every next token, and rewrites the table between the markers
in docs/kv_cache.md.
"""

import os
from pathlib import Path

from banyan.compiler.executable import Executable
from banyan.compiler.ir.cached import CACHE_FORMATS
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.engine.starting.compiling import choose_dtype, compile_and_pack, plain_graph
from banyan.engine.workbench.accuracy import TextAccuracy, chunks_of, compare_texts, prepare
from banyan.engine.workbench.quantizing import MOST_TOKENS
from banyan.foundation.settings import Settings, load_settings
from banyan.models.loading import ModelDirectory, open_model
from banyan.models.quantized_model import QuantizedModel
from tools.measure_quantisation import conversations

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "kv_cache.md"
BEGIN, END = "<!-- begin measured -->\n", "<!-- end measured -->"
_HEAD = (
    "| keys and values | bytes of a token | divergence | same first choice | perplexity |",
    "|---|---|---|---|---|",
)


def main() -> int:
    """Measure every format and rewrite the page."""
    settings = load_settings(os.environ)
    directory = open_model(str(ROOT / "models" / "seedling"), offline=True)
    chunks = chunks_of(directory, conversations(), most=MOST_TOKENS)
    device = find_device("cpu", settings=settings)
    plain = executable(directory, device, settings, None)
    rows = []
    for name in ("int8", "fp8", "int4"):
        found = compare_texts(
            plain, executable(directory, device, settings, name), directory, chunks
        )
        rows.append(row_of(directory, name, found))
        print(rows[-1], flush=True)
    device.close()
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    table = "\n".join([*_HEAD, *rows]) + "\n"
    PAGE.write_text(before + BEGIN + table + END + rest.split(END)[1], encoding="utf-8")
    return 0


def executable(
    directory: ModelDirectory, device: Device, settings: Settings, cache_format: str | None
) -> Executable:
    """The model with its own weights and keys and values in a format; None is as computed."""
    dtype = choose_dtype("auto", directory.configuration.checkpoint_dtype)
    graph = plain_graph(directory, dtype, settings, cache_format=cache_format)
    model = QuantizedModel(graph, directory.open_weights())
    found = compile_and_pack(model, device, settings=settings, say=lambda *_: None)
    prepare(found, directory)
    return found


def row_of(directory: ModelDirectory, name: str, found: TextAccuracy) -> str:
    """One line of the table."""
    configuration = directory.decoder_configuration()
    rows = 2 * configuration.num_layers * configuration.num_kv_heads
    sizes = [rows * CACHE_FORMATS[n].row_bytes(configuration.head_dim) for n in (name, "bfloat16")]
    change = found.quantized_perplexity / found.perplexity - 1
    return (
        f"| {name} | {sizes[0]} ({sizes[0] / sizes[1]:.0%} of bfloat16) | "
        f"{found.divergence:.5f} nats | {found.agreement:.2%} | "
        f"{found.perplexity:.4f} to {found.quantized_perplexity:.4f} ({change:+.2%}) |"
    )


if __name__ == "__main__":
    raise SystemExit(main())
