"""What compiling costs: seconds until the step of Qwen3-0.6B is ready, and lines of the compiler.

python benchmarks/compiler_cost.py [--rounds N]

Cold: nothing is kept, torch is imported, the graph captured, lowered, printed and built. Warm: the
graph and the program are found on disk. Each in a fresh process with an empty folder of its own.
The bars: cold at most 30 s, warm at most 0.5 s, at most 10,000 lines.
"""

import argparse
import ast
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

COMPILER = Path(__file__).parent.parent / "src" / "banyan" / "compiler"
QWEN3 = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-06,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "max_position_embeddings": 32768,
    "rope_scaling": None,
    "sliding_window": None,
    "use_sliding_window": False,
}
READY = """
import sys, time
began = time.perf_counter()
from pathlib import Path
from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.devices.discovery import find_device
from banyan.foundation.settings import Settings
from banyan.models.configuration import read_configuration
from banyan.models.step_graph import decoder_step_graph
cache = Path(sys.argv[2])
configuration = read_configuration(Path(sys.argv[1]))
graph = decoder_step_graph(configuration, dtype="bfloat16", cache_directory=cache)
device = find_device("cpu", settings=Settings(cache))
compile_graph(graph, device=device, options=CompileOptions(cache))
print(time.perf_counter() - began)
"""


def ready_seconds(model: Path, cache: Path) -> float:
    """From the first import to a program that can be launched."""
    command = [sys.executable, "-c", READY, str(model), str(cache)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return float(done.stdout)


def code_lines(path: Path) -> int:
    """Lines of a file that are neither blank nor comment nor docstring."""
    text = path.read_text(encoding="utf-8")
    mark = "#" if path.suffix == ".py" else "//"
    lines = [line.strip() for line in text.splitlines()]
    count = sum(bool(line) and not line.startswith(mark) for line in lines)
    if path.suffix != ".py":
        return count
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
            continue
        inside = lines[node.lineno - 1 : node.end_lineno]
        count -= sum(bool(line) and not line.startswith(mark) for line in inside)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    cold, warm = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            model, cache = Path(folder) / "model", Path(folder) / "cache"
            model.mkdir()
            (model / "config.json").write_text(json.dumps(QWEN3))
            cold.append(ready_seconds(model, cache))
            warm.append(min(ready_seconds(model, cache) for _ in range(3)))
    for name, seconds in (("cold", cold), ("warm", warm)):
        spread = f"[{min(seconds):.2f}..{max(seconds):.2f}]"
        print(f"{name}: {statistics.median(seconds):.2f} s {spread}")
    files = [p for p in COMPILER.rglob("*") if p.suffix in {".py", ".h", ".cpp"}]
    everything = sum(len(p.read_text(encoding="utf-8").splitlines()) for p in files)
    print(f"compiler: {sum(map(code_lines, files))} lines of code, {everything} with the rest")


if __name__ == "__main__":
    main()
