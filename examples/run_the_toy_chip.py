"""Compile a layer for the toy chip of `toy_target.py` and compare it with PyTorch.

python examples/run_the_toy_chip.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from toy_target import ToyDevice, ToyTarget

from banyan.compiler.capture.export import capture_module
from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.compiled_module import fill

torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.RMSNorm(64), torch.nn.Linear(64, 96), torch.nn.SiLU()).eval()
rows = torch.export.Dim("rows", max=100)
graph = capture_module(module, (torch.randn(5, 64),), name="layer", dynamic_shapes=({0: rows},))

with tempfile.TemporaryDirectory() as folder:
    options = CompileOptions(Path(folder))
    target = ToyTarget(Path(folder))
    program = compile_graph(graph, device=ToyDevice(), target=target, options=options)
    fill(program, module)
    (argument,) = (given.name for given in program.inputs if given.role == "argument")
    for count in (5, 70):
        x = torch.randn(count, 64)
        (found,) = program.run({argument: x.numpy()}).values()
        difference = np.abs(found - module(x).detach().numpy()).max()
        print(f"{count} rows: largest difference from PyTorch {difference:.1e}")
        assert difference < 1e-5
