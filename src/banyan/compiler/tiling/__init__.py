"""From groups of whole-tensor nodes to kernels over tiles."""
