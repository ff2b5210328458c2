"""From PyTorch modules to graphs; the only part of the compiler that imports torch."""
