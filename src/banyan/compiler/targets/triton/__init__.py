"""Triton: kernels printed for the portable subset that NVIDIA, AMD and many other chips compile."""
