"""C++ with vector instructions: printed kernels, micro-kernels, and packed weights."""
