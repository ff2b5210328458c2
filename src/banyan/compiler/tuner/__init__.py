"""What kernels cost, before and after they run, and the choice of their block sizes."""
