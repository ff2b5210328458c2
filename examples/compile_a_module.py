"""Compile an ordinary PyTorch module with Banyan's compiler and compare it with PyTorch.

python examples/compile_a_module.py
"""

import torch

import banyan


class Block(torch.nn.Module):
    """A gated layer such as those inside language models."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = torch.nn.Linear(width, 4 * width, bias=False)
        self.up = torch.nn.Linear(width, 4 * width, bias=False)
        self.down = torch.nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x [rows, width] plus what the layer makes of it."""
        return x + self.down(torch.nn.functional.silu(self.gate(x)) * self.up(x))


torch.manual_seed(0)
module, x = Block(64).eval(), torch.randn(5, 64)

program = banyan.compile(module, (x,), target="cpp")
difference = (program(x) - module(x)).abs().max().item()
print(f"largest difference from PyTorch: {difference:.1e}")
assert difference < 1e-4

# Every operation runs in a kernel that our compiler wrote.
for label, text in program.report().rows():
    print(f"{label:>14}  {text}")
assert program.report().coverage == 1.0
