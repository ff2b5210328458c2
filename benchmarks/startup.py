"""How long it takes to import Banyan, and until a server with a warm cache is ready.

    python benchmarks/startup.py [--model DIR] [--rounds N]

Prints median, minimum and maximum in seconds. The bars: import under 0.15 s without torch, server
ready under 5 s.
"""

import argparse
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

SEEDLING = Path(__file__).parent.parent / "models" / "seedling"
IMPORT = "import time; t = time.perf_counter(); import banyan; print(time.perf_counter() - t)"
READY_WITHIN_SECONDS = 120


def import_seconds() -> float:
    """The time `import banyan` takes in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, check=True, text=True
    )
    return float(done.stdout)


def ready_seconds(model: str) -> float:
    """From starting `banyan serve` to the first healthy answer."""
    port = _free_port()
    command = [sys.executable, "-m", "banyan.cli.main", "serve", model, "--port", str(port)]
    began = time.perf_counter()
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _is_healthy(port):
            if server.poll() is not None or time.perf_counter() - began > READY_WITHIN_SECONDS:
                raise SystemExit(f"the server did not start; try: {' '.join(command)}")
            time.sleep(0.02)
        return time.perf_counter() - began
    finally:
        server.terminate()
        server.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def show(name: str, rounds: int, measure: Callable[[], float]) -> None:
    """Measure once to warm up, then print the spread of `rounds` measurements."""
    measure()
    seconds = [measure() for _ in range(rounds)]
    low, high = min(seconds), max(seconds)
    print(f"{name:14s} median {statistics.median(seconds):.3f} s  [{low:.3f} .. {high:.3f}]")


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(SEEDLING))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    show("import banyan", arguments.rounds, import_seconds)
    show("server ready", arguments.rounds, lambda: ready_seconds(arguments.model))


if __name__ == "__main__":
    main()
