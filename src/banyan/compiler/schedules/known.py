"""The blocks that need no measuring: those shipped with this version, and those tuned here."""

import hashlib
import json
from functools import cache
from pathlib import Path

from banyan.compiler.schedules.evidence import FILE_NAME, Evidence
from banyan.compiler.tiling.options import LinearBlock, LinearShape
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.profile import fingerprint_of

Blocks = tuple[tuple[LinearShape, LinearBlock], ...]

SEED = Path(__file__).parent / "seed_blocks.json"
"""The blocks that ship; `benchmarks/compiler_tuning.py --seed` writes them."""
_MICRO_KERNELS = Path(__file__).parent.parent / "targets" / "cpp" / "micro_kernels"


def known_blocks(instruction_set: str, cache_directory: Path) -> Blocks:
    """The shipped blocks of an instruction set, and over them what was tuned on this machine."""
    found = dict(seed_blocks(instruction_set))
    if (cache_directory / FILE_NAME).exists():
        found.update(open_evidence(cache_directory).blocks())
    return tuple(found.items())


def open_evidence(cache_directory: Path) -> Evidence:
    """The findings of this machine's CPU with the micro-kernels installed."""
    facts = CpuProbe().inventory()[0]
    device = fingerprint_of(facts, num_threads=facts.cores)
    return Evidence(cache_directory, device=device, kernels=_kernels_digest())


@cache
def seed_blocks(instruction_set: str) -> Blocks:
    """What ships: lists of depth, columns, weight type, rows, panels by instruction set."""
    listed = json.loads(SEED.read_text(encoding="utf-8")).get(instruction_set, [])
    return tuple((LinearShape(k, n, w), LinearBlock(r, p)) for k, n, w, r, p in listed)


@cache
def _kernels_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(_MICRO_KERNELS.glob("*.h")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
