"""The arrangements of devices under which a model has to give the same tokens.

Shared by the tests and by `benchmarks.same_tokens`. Devices are workers of this host, a process
each, but in the last arrangement: there they are `banyan worker`s in two network namespaces.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from banyan.engine.options import EngineOptions
from banyan.engine.starting.loading import LoadedModel
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_file import print_plan
from tests.distributed.two_hosts import second_host
from tests.engine.stages.plans import load_under
from tests.models.checkpoints import make_checkpoint
from tests.pocl import environment_of_children

KINDS = ("llama", "qwen3", "qwen3_moe", "deepseek_v3")
OPENCL = "opencl:0"
NEAR, FAR = "10.213.77.1", "10.213.77.2"


@dataclass(frozen=True, slots=True)
class Arrangement:
    """One way to place a model.

    Attributes:
        name: a letter.
        title: what a person calls it.
        replica: where everything is; None for one device without a plan.
        needs: what the machine must have.
    """

    name: str
    title: str
    replica: Replica | None
    needs: frozenset[str] = frozenset()

    @property
    def plan(self) -> str | None:
        """The plan as a file has it."""
        if self.replica is None:
            return None
        layers = self.replica.stages[-1].end_layer
        plan = Plan(model="tiny", model_fingerprint="", num_layers=layers, replicas=(self.replica,))
        return print_plan(plan)


def num_layers(kind: str) -> int:
    """Of a checkpoint of the tests."""
    return 2 if kind in {"llama", "qwen3"} else 3


def arrangements(kind: str) -> tuple[Arrangement, ...]:
    """Every arrangement that a kind of model can have."""
    end = num_layers(kind)
    opencl = frozenset({"opencl"})
    whole = Stage(0, end, ("cpu",))
    three: tuple[Stage, ...] = (
        Stage(0, 1, (OPENCL,)),
        Stage(1, 2, ("cpu",)),
        Stage(2, end, ("interpreter",)),
    )
    if end == 2:
        three = (Stage(0, 1, (OPENCL,)), Stage(1, 2, ("cpu",), attention=("interpreter",)))
    found = [
        Arrangement("a", "one CPU device", None),
        Arrangement(
            "b", "two CPU stages", Replica((Stage(0, 1, ("cpu",)), Stage(1, end, ("cpu#1",))))
        ),
        Arrangement(
            "c",
            "C++ and OpenCL stages",
            Replica((Stage(0, 1, ("cpu",)), Stage(1, end, (OPENCL,)))),
            opencl,
        ),
        Arrangement("d", "OpenCL, C++ and interpreter", Replica(three), opencl),
        Arrangement(
            "e",
            "attention on a second CPU process",
            Replica((Stage(0, end, ("cpu",), attention=("cpu#1",)),)),
        ),
        Arrangement(
            "f",
            "experts on a second CPU process",
            Replica((Stage(0, end, ("cpu",), experts=("cpu#1",)),)),
        ),
        Arrangement(
            "g",
            "prompts on C++, answers on OpenCL",
            Replica((Stage(0, end, (OPENCL,)),), prefill=(whole,)),
            opencl,
        ),
        Arrangement("h", "2-way tensor parallel", Replica((Stage(0, end, ("cpu", "cpu#1")),))),
        Arrangement(
            "i",
            "two stages of two ranks over two namespaces",
            Replica((Stage(0, 1, ("near", "near#1")), Stage(1, end, ("far", "far#1")))),
            frozenset({"namespaces"}),
        ),
    ]
    has_experts = kind not in {"llama", "qwen3"}
    return tuple(each for each in found if has_experts or each.name != "f")


def checkpoint_of(kind: str, folder: Path) -> Path:
    """The checkpoint of a kind, made once in a folder."""
    directory = folder / kind
    if not (directory / "config.json").exists():
        make_checkpoint(kind, directory)
    return directory


@dataclass(frozen=True, slots=True)
class Lent:
    """Workers that listen.

    Attributes:
        workers: (place, address).
        secret: the file that both sides know.
    """

    workers: tuple[tuple[str, str], ...]
    secret: str


def has_namespaces() -> bool:
    """Whether this process may make network namespaces."""
    name = f"banyan-try-{os.getpid()}"
    try:
        subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(["ip", "netns", "del", name], check=True)
    return True


@contextlib.contextmanager
def lent_over_two_hosts(folder: Path) -> Iterator[Lent]:
    """Two `banyan worker`s in this namespace and two in another, with a link between them."""
    secret = folder / "secret"
    with second_host() as name, contextlib.ExitStack() as started:
        found = []
        for place, host, before in (
            ("near", NEAR, []),
            ("near#1", NEAR, []),
            ("far", FAR, ["ip", "netns", "exec", name]),
            ("far#1", FAR, ["ip", "netns", "exec", name]),
        ):
            port = started.enter_context(_worker(before, host, secret))
            found.append((place, f"tcp://{host}:{port}"))
        yield Lent(tuple(found), str(secret))


@contextlib.contextmanager
def _worker(before: list[str], host: str, secret: Path) -> Iterator[int]:
    """A `banyan worker` on a free port of a host, ended afterwards."""
    command = [*before, sys.executable, "-m", "banyan.cli.main", "worker", "--listen", f"{host}:0"]
    process = subprocess.Popen(
        [*command, "--secret", str(secret), "--device", "cpu"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        with process.stdout:
            said = process.stdout.readline()
        port = re.search(r"port (\d+)", said)
        assert port is not None, f"the worker said {said!r}"
        yield int(port[1])
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def loaded_under(
    arrangement: Arrangement, directory: Path, cache: Path, folder: Path
) -> Iterator[LoadedModel]:
    """A model in an arrangement; a secret and other files go to a folder."""
    with contextlib.ExitStack() as opened:
        options = EngineOptions()
        workers: tuple[tuple[str, str], ...] = ()
        if "namespaces" in arrangement.needs:
            lent = opened.enter_context(lent_over_two_hosts(folder))
            options, workers = EngineOptions(plan_secret=lent.secret), lent.workers
        loaded = load_under(directory, cache, arrangement.plan, workers=workers, options=options)
        opened.callback(loaded.close)
        yield loaded


def environment_of_workers(cache: Path) -> dict[str, str]:
    """What workers need to compile into a folder and to find PoCL."""
    return {**environment_of_children(), "BANYAN_CACHE": str(cache)}
