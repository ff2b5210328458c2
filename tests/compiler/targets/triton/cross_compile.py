"""Compile every kernel of a printed module for a chip that is not here, and count instructions.

    python -m tests.compiler.targets.triton.cross_compile MODULE.py cuda:90

Run in a process of its own: where Triton interprets, it does not compile. Prints one JSON object:
for each launch of the module, the kernel, and how often each matrix instruction stands in it.
"""

import importlib.util
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

INSTRUCTIONS = ("mma.sync", "wgmma.mma_async", "tcgen05.mma", "v_mfma")
POINTERS = {
    "float32": "*fp32",
    "bfloat16": "*bf16",
    "float16": "*fp16",
    "int1": "*i1",
    "int8": "*i8",
    "uint8": "*u8",
    "int32": "*i32",
    "int64": "*i64",
}


class AnyNumber:
    """Numbers for symbols and offsets: only the text matters here."""

    def __getitem__(self, index: int) -> int:
        return 64


class Recorder:
    """Stands for the runtime of an entry and notes what it launches."""

    def __init__(self) -> None:
        self.launches: dict[str, tuple[Any, Mapping[str, Any], int]] = {}

    def at(self, buffer: int, offset: int) -> None:
        return None

    def constant(self, number: int) -> None:
        return None

    def copy(self, source: None, target: None, num_bytes: int) -> None:
        return None

    def launch(
        self, kernel: Any, programs: int, hints: Mapping[str, Any], arguments: Sequence[Any]
    ) -> None:
        self.launches[kernel.fn.__name__] = (kernel, hints, len(arguments))


def compile_launches(path: str, chip: str) -> dict[str, dict[str, int]]:
    from triton import compile as build  # noqa: PLC0415
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415
    from triton.compiler import ASTSource  # noqa: PLC0415

    spec = importlib.util.spec_from_file_location("program", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    recorder = Recorder()
    for name in (n for n in dir(module) if n.startswith("banyan_run_")):
        getattr(module, name)(recorder, AnyNumber())
    backend, _, arch = chip.partition(":")
    is_cuda = backend == "cuda"
    target = GPUTarget(backend, int(arch) if is_cuda else arch, 32 if is_cuda else 64)
    found = {}
    for name, (kernel, hints, count) in recorder.launches.items():
        pointers = [POINTERS[kind] for kind in kernel.types]
        types = [*pointers, *["i32"] * (count - len(pointers))]
        source = ASTSource(
            kernel,
            signature=dict(zip(kernel.arg_names, types, strict=True)),
            attrs={(i,): [["tt.divisibility", 16]] for i in range(len(pointers))},
        )
        text = build(source, target=target, options=dict(hints)).asm
        assembly = text["ptx" if is_cuda else "amdgcn"]
        found[name] = {i: len(re.findall(re.escape(i), assembly)) for i in INSTRUCTIONS}
        found[name]["has_product"] = int("tl.dot" in kernel.src)
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(compile_launches(sys.argv[1], sys.argv[2])))
