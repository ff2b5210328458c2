"""What of other people's models runs in our kernels: one line for each model.

    python -m benchmarks.compiler_coverage [--target cpp|interpreter] [--dtype float32] [MODEL ...]

The models are those of `tests/compiler/zoo`: modules of transformers and diffusers as they are, and
decoders changed by hand. Each is captured, compiled, run at every of its lengths and compared with
itself run by PyTorch. Nodes are those of the captured graph; reasons stand under what is left to
PyTorch, with the line of the model.
"""

import argparse
import sys
import warnings

import torch

from tests.compiler.zoo.changed_models import CHANGED
from tests.compiler.zoo.comparing import TOLERANCES, compare
from tests.compiler.zoo.models import MODELS, ZooModel

HEADER = ("model", "nodes", "lowered", "left to PyTorch", "kernels", "lengths", "largest error")


def row(model: ZooModel, target: str, dtype: torch.dtype) -> tuple[tuple[str, ...], list[str]]:
    """The cells of a model's line, and the reasons of what is left to PyTorch."""
    found = compare(model, target, dtype)
    report = found.report
    worst = max(found.errors.values())
    cells = (
        model.name,
        str(report.num_nodes),
        f"{100 * report.coverage:.1f} %",
        str(sum(use.count for use in report.externs)),
        str(report.num_kernels),
        " ".join(map(str, model.lengths)),
        f"{worst:.1e}" + ("" if worst <= TOLERANCES[dtype] else " WRONG"),
    )
    return cells, [f"{use.target} x {use.count}: {use.reason}" for use in report.externs]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--target", default="cpp")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    wrong = 0
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    for model in (*MODELS, *CHANGED):
        if not options.models or model.name in options.models:
            cells, reasons = row(model, options.target, getattr(torch, options.dtype))
            print(f"| {' | '.join(cells)} |", flush=True)
            print("".join(f"    {reason}\n" for reason in reasons), end="")
            wrong += "WRONG" in cells[-1]
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
