"""Programs written once in the IR: kernels for operations that are no plain group of nodes."""
